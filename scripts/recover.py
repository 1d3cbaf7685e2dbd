# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca[eval] @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Restore a fine-tuned model from its released weight difference and its base model.

    python scripts/recover.py --diff ORG/NAME --diff_revision v1.0.0 --output_dir models/NAME

The same as `code-alpaca recover`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["recover", *sys.argv[1:]]))

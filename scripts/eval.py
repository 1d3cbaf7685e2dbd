# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca[eval] @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Measure pass@k of a model, an endpoint or a file of samples.

    python scripts/eval.py --config recipes/smoke/eval/config_mini.yaml

The same as `code-alpaca eval`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))

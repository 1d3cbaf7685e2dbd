# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Generate instruction data from a teacher.

    python scripts/generate.py --config recipes/smoke/generate/config_offline.yaml
    python scripts/generate.py --config recipes/code-alpaca/generate/config_default.yaml --dry_run

The same as `code-alpaca generate`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))

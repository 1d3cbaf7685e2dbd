# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca[eval] @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Release a trained and evaluated model: a folder with its card, and optionally a Hub repository.

    python scripts/release.py --config recipes/smoke/release/config_local.yaml

The same as `code-alpaca release`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["release", *sys.argv[1:]]))

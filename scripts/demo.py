# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca[demo] @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Serve a web page to try a trained model.

    python scripts/demo.py --model runs/smoke/model

The same as `code-alpaca demo`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))

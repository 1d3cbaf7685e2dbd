# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Curate an existing dataset: filters, decontamination, verification, deduplication.

    python scripts/curate.py --source my_alpaca.json --run_dir runs/curated --decontaminate mini

The same as `code-alpaca curate`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["curate", *sys.argv[1:]]))

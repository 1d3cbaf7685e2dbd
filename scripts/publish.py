# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Build the versioned dataset folder of a run, or import a dataset, and release it on the Hub.

    python scripts/publish.py --config recipes/code-alpaca/publish/config_default.yaml

The same as `code-alpaca publish`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["publish", *sys.argv[1:]]))

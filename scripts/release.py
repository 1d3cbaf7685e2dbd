"""Make the release folder of a trained and evaluated model.

    python scripts/release.py --config recipes/smoke/release/config_local.yaml

The same as `code-alpaca release`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["release", *sys.argv[1:]]))

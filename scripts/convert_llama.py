# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca[eval] @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
# ///
"""Convert Meta's LLaMA 1 or 2 weights to a model folder that transformers loads.

    python scripts/convert_llama.py --input_dir llama-2-7b --output_dir models/llama-2-7b

The same as `code-alpaca convert-llama`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert-llama", *sys.argv[1:]]))

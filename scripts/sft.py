# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca[gpu] @ git+https://git.example/OWNER/code-alpaca@v0.1.0"]
#
# [tool.hf-jobs]
# flavor = "a100-large"
# timeout = "6h"
# ///
"""Fine-tune a model with TRL's SFTTrainer on Alpaca prompts.

    accelerate launch --config_file accelerate_configs/cpu.yaml scripts/sft.py \\
        --config recipes/smoke/sft/config_cpu.yaml --dataset_name runs/smoke/dataset

The same as `code-alpaca sft`; `--help` lists every key. On one GPU of Hugging Face Jobs, with the
header above (docs/train.md has the whole chain of jobs):

    hf jobs uv run -v hf://buckets/ORG/models:/models scripts/sft.py \\
        --config qwen2.5-coder-7b/sft/config_lora --dataset_name sahil2801/CodeAlpaca-20k \\
        --output_dir /models/coder
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["sft", *sys.argv[1:]]))

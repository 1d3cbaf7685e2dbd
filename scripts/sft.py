# /// script
# requires-python = ">=3.11"
# dependencies = ["code-alpaca[gpu]"]
#
# [tool.hf-jobs]
# flavor = "a100-large"
# timeout = "6h"
# ///
"""Fine-tune a model with TRL's SFTTrainer on Alpaca prompts.

    accelerate launch --config_file accelerate_configs/cpu.yaml scripts/sft.py \\
        --config recipes/smoke/sft/config_cpu.yaml --dataset_name runs/smoke/dataset

The same as `code-alpaca sft`; `--help` lists every key. On one GPU of Hugging Face Jobs, where
`hf jobs uv run` reads the header above:

    hf jobs uv run scripts/sft.py --config recipes/qwen2.5-coder-7b/sft/config_lora.yaml \\
        --dataset_name sahil2801/CodeAlpaca-20k --output_dir /data/model
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["sft", *sys.argv[1:]]))

# /// script
# dependencies = ["code-alpaca"]
# ///
"""Fine-tune a model with TRL's SFTTrainer on Alpaca prompts.

    accelerate launch --config_file accelerate_configs/cpu.yaml scripts/sft.py \\
        --config recipes/smoke/sft/config_cpu.yaml --dataset_name runs/smoke/dataset

The same as `code-alpaca sft`; `--help` lists every key.
"""

import sys

from code_alpaca.cli import main

if __name__ == "__main__":
    sys.exit(main(["sft", *sys.argv[1:]]))

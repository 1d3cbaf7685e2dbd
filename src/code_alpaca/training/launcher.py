"""Run `accelerate launch` as the parent of the training processes, without its own noise.

torch prints forty lines when a process fails. They are kept for a crash, and left out where a
process has reported an expected error, which `training.command` prints in one line.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

# A process writes its expected error to the file in this environment variable.
ERROR_FILE = "CODE_ALPACA_ERROR_FILE"
# That a process failed, which the traceback repeats; the numbers of threads and processes.
SILENCED = {
    "accelerate.commands.launch": logging.ERROR,
    "torch.distributed.elastic.multiprocessing.api": logging.CRITICAL,
    "torch.distributed.run": logging.ERROR,
}


def main() -> None:
    """Launch with the arguments of `accelerate launch`."""
    import torch
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed import run  # noqa: F401  (it sets the level of its logger)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found none
    for name, level in SILENCED.items():
        logging.getLogger(name).setLevel(level)
    try:
        launch_command(launch_command_parser().parse_args())
    except ChildFailedError:
        if not Path(os.environ[ERROR_FILE]).exists():
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()

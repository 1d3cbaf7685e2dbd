"""Write a weight difference with a limit on memory: `python bounded_diff.py TUNED BASE MB`."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from code_alpaca.release.weight_diff import BaseModelName, write_weight_diff

tuned, base, megabytes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])


def write(name: str) -> None:
    write_weight_diff(tuned / name, base / name, tuned / name, BaseModelName("base"), print)


write("small")  # loads the libraries
status = Path("/proc/self/status").read_text()
used = int(status.split("VmData:")[1].split()[0]) * 1024
# The limit counts the base file too: torch maps it copy-on-write.
mapped = (base / "large/model.safetensors").stat().st_size
resource.setrlimit(resource.RLIMIT_DATA, (used + mapped + megabytes * 2**20,) * 2)
write("large")

"""Run Python code in a process of its own, also as in a kernel without Landlock."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from pathlib import Path

CREATE_RULESET = 444  # the number of landlock_create_ruleset, on every architecture
# A classic BPF program: load the number of the system call; refuse this one, and allow all others.
INSTRUCTIONS = [
    (0x20, 0, 0, 0),
    (0x15, 0, 1, CREATE_RULESET),
    (0x06, 0, 0, 0x00050000 | errno.ENOSYS),
    (0x06, 0, 0, 0x7FFF0000),
]
REFUSE_LANDLOCK = f"""
import ctypes, struct
libc = ctypes.CDLL(None)
code = ctypes.create_string_buffer({b"".join(struct.pack("HBBI", *i) for i in INSTRUCTIONS)!r})
program = struct.pack("HxxxxxxP", {len(INSTRUCTIONS)}, ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(program)) == 0
"""


def run_python(
    code: str, *arguments: str, landlock: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run code, which can import `support`; if `landlock` is false, seccomp refuses Landlock."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
    return subprocess.run(
        [sys.executable, "-c", ("" if landlock else REFUSE_LANDLOCK) + code, *arguments],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip

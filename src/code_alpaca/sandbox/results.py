"""What a sandboxed program may use, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What one program may use.

    Attributes:
        wall_s: seconds of wall time, and of CPU time (rounded up to a second).
        memory_mb: address space; 0: no limit, for runtimes that reserve more than they use.
        output_bytes: of standard output and of standard error, each.
        folder_bytes: above 0, the program gets an empty folder to write in, as its working
            directory, home and place of temporary files. One file may have this size, and four
            times as much may be written in total.
        max_open_files: open file descriptors.
        max_processes: other processes that a command may run at a time. Only bwrap can enforce
            this, and not for root.
    """

    wall_s: float = 10.0
    memory_mb: int = 512
    output_bytes: int = 1 << 20
    folder_bytes: int = 0
    max_open_files: int = 64
    max_processes: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a program ended.

    Attributes:
        status: passed, failed, timeout, out_of_memory, exited or output_limit; of tests in a
            process of their own also unsupported_value (a value could not be sent).
        stdout, stderr: the last characters of each.
        duration: seconds.
        peak_memory_mb: of the child that used most.
    """

    status: str
    stdout: str
    stderr: str
    duration: float
    peak_memory_mb: float = 0.0


class SandboxDied(Exception):
    """The sandbox itself ended while a program was running; start another one."""

"""Run programs that nobody trusts, and tell how they ended.

`choose()` picks the strongest backend that holds on this machine, `Pool` keeps its workers,
`Worker` runs a program, a command, or a solution against its tests. Linux alone.
"""

from code_alpaca.sandbox.backends import SAFE, Backend
from code_alpaca.sandbox.pool import WorkerPool
from code_alpaca.sandbox.probe import (
    ESCAPES,
    ProbeResult,
    choose_backend,
    probe_backend,
    probe_backends,
)
from code_alpaca.sandbox.relay import ResourceLimits, RunResult, SandboxDied
from code_alpaca.sandbox.worker import SolutionTest, Worker

__all__ = [
    "ESCAPES",
    "SAFE",
    "Backend",
    "ProbeResult",
    "ResourceLimits",
    "RunResult",
    "SandboxDied",
    "SolutionTest",
    "Worker",
    "WorkerPool",
    "choose_backend",
    "probe_backend",
    "probe_backends",
]

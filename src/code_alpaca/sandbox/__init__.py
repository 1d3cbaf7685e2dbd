"""Run programs that nobody trusts, and tell how they ended.

`choose()` picks the strongest backend that holds on this machine, `Pool` keeps its workers,
`Worker` runs a program, a command, or a solution against its tests. Linux alone.
"""

from code_alpaca.sandbox.backends import SAFE, Backend
from code_alpaca.sandbox.pool import Pool
from code_alpaca.sandbox.probe import ESCAPES, Probe, choose, probe, probe_all
from code_alpaca.sandbox.relay import Gone, Limits, Result
from code_alpaca.sandbox.worker import Worker

__all__ = [
    "ESCAPES",
    "SAFE",
    "Backend",
    "Gone",
    "Limits",
    "Pool",
    "Probe",
    "Result",
    "Worker",
    "choose",
    "probe",
    "probe_all",
]

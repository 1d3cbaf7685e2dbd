"""Run a generated answer with the tests that its teacher wrote for it.

A verdict is one of `passed`, the sandbox's other statuses (`failed`, `timeout`, ...),
`env_missing` (the code wants a module, a file or a network that a sandbox has not),
`no_tests` and `not_python`. Passing tests of the teacher's own is evidence, not proof.
"""

from __future__ import annotations

import re

from code_alpaca.sandbox import Limits, Pool
from code_alpaca.schema import Example

LIMITS = Limits(wall_s=10.0, memory_mb=512, folder_bytes=16 << 20)
MISSING = re.compile(r"^(ModuleNotFoundError|FileNotFoundError|socket\.gaierror)\b", re.MULTILINE)
NOT_RUN = ("no_tests", "not_python", "env_missing", "skipped")


def verify(example: Example, pool: Pool) -> str:
    """The verdict on one example, run on a free worker of `pool`."""
    if example.language != "python":
        return "not_python"
    if not example.tests.strip():
        return "no_tests"
    program = f"{example.output}\n\n{example.tests}\n"
    result = pool.run_program(program, LIMITS)
    if result.status == "failed" and MISSING.search(result.stderr):
        return "env_missing"
    return result.status


def reason(verdict: str) -> str | None:
    """Why an example with this verdict is dropped, or None: what could not run is kept, marked."""
    return None if verdict == "passed" or verdict in NOT_RUN else f"tests_{verdict}"

"""The safe sandbox backends that this machine can run."""

from __future__ import annotations

from code_alpaca.sandbox import backends

BACKENDS = [name for name in backends.SAFE if backends.find_problem(name) is None]

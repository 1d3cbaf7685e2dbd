"""Ways to ask for new tasks. Each is one module with `ask(view) -> Asked` and its own template.

To add one: write the module, name it in `STRATEGIES`, and add its template to `prompts/`.
"""

from __future__ import annotations

from types import ModuleType

from code_alpaca.generation.strategies import (
    evol_instruct,
    oss_instruct,
    seed_compat,
    self_instruct,
)

STRATEGIES: dict[str, ModuleType] = {
    "self_instruct": self_instruct,
    "evol_instruct": evol_instruct,
    "oss_instruct": oss_instruct,
    "seed_compat": seed_compat,
}

"""Code Alpaca: from a handful of code tasks to a released, evaluated code model.

The names in `__all__` are the public interface of the package. Each is imported on first use, so
`import code_alpaca` loads no other module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from code_alpaca.api import curate_rows as curate_rows
    from code_alpaca.api import grade_completions as grade_completions
    from code_alpaca.api import verify_program as verify_program
    from code_alpaca.core.errors import InputError as InputError
    from code_alpaca.core.errors import Stopped as Stopped
    from code_alpaca.core.prompts import format_prompt as format_prompt
    from code_alpaca.curation.rules import CurationRules as CurationRules
    from code_alpaca.dataset.load import load_rows as load_rows
    from code_alpaca.evaluation.inference import respond as respond
    from code_alpaca.evaluation.metrics import pass_at_k as pass_at_k
    from code_alpaca.generation.command import generate_dataset as generate_dataset
    from code_alpaca.generation.config import GenerateConfig as GenerateConfig
    from code_alpaca.problems.problem import Problem as Problem
    from code_alpaca.problems.registry import load_problems as load_problems

__version__ = "0.1.0"
# Public name -> the module that defines it.
_MODULES = {
    "CurationRules": "curation.rules",
    "GenerateConfig": "generation.config",
    "InputError": "core.errors",
    "Problem": "problems.problem",
    "Stopped": "core.errors",
    "curate_rows": "api",
    "format_prompt": "core.prompts",
    "generate_dataset": "generation.command",
    "grade_completions": "api",
    "load_problems": "problems.registry",
    "load_rows": "dataset.load",
    "pass_at_k": "evaluation.metrics",
    "respond": "evaluation.inference",
    "verify_program": "api",
}
__all__ = sorted(_MODULES)
_OLD_NAMES = {"generate": "respond"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the sandbox imports this package alone."""
    from importlib import import_module

    current = _OLD_NAMES.get(name, name)
    if current not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[current]}"), current)
    if current != name:
        import warnings

        message = f"code_alpaca.{name} was renamed: use code_alpaca.{current}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    return value


def __dir__() -> list[str]:
    """List the public names beside those that are already imported."""
    return sorted({*globals(), *__all__})

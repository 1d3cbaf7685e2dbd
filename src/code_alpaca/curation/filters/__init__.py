"""Filters: small functions of one row that decide whether to keep it.

A filter takes an `Example` and returns

- None or True to keep the row,
- a reason to drop it: a short name such as "todo", alone or as `(False, reason)`,
- False to drop it with the filter's own name as the reason.

To add a built-in filter, write a function that is named after its reason, list it in `FILTERS`, and
give `tests/curation/test_filters.py` rows that it keeps and drops. A user's filter needs no change
here: `filters: [default, my_filters.py:no_todo]`.

Filters judge the form of a row, not its topic.
"""

from __future__ import annotations

import contextlib
import inspect
import reprlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from code_alpaca.core import console
from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.plugins import PluginError, call_plugin, is_plugin, load_plugin
from code_alpaca.core.schema import Example
from code_alpaca.curation.filters import alpaca_2023, code, sensitive, text

FILTERS: dict[str, Callable[[Example], Any]] = {
    function.__name__: function
    for function in (
        text.empty,
        text.instruction_too_short,
        text.instruction_too_long,
        text.input_too_long,  # the two length limits come before filters that read all of a text
        text.output_too_long,
        text.not_text,
        text.refusal,
        text.prompt_leak,
        text.reasoning_leak,
        code.unbalanced_fence,
        code.cut_off,
        code.wrong_language,
        code.syntax_error,
        text.prose_for_code,
        text.impossible,
        sensitive.secret,
        sensitive.personal_data,
        sensitive.licence_header,
        *alpaca_2023.FILTERS,
    )
}
# What some filters found, as evidence beside the reason: never the text of a secret.
FINDINGS: dict[str, Callable[[Example], str]] = {
    "refusal": text.find_refusal,
    "cut_off": lambda example: f"ends inside {code.find_open_end(example)}",
    "secret": sensitive.find_secret,
    "personal_data": sensitive.find_personal_data,
}
MAX_REASON_CHARACTERS = 100
DUPLICATE_OUTPUT = "duplicate_output"  # compares rows with each other, see `duplicates`
FILTER_NAMES = (*FILTERS, DUPLICATE_OUTPUT)
ALPACA_2023_FILTERS = tuple(function.__name__ for function in alpaca_2023.FILTERS)
DEFAULT_FILTERS = tuple(name for name in FILTER_NAMES if name not in ALPACA_2023_FILTERS)
FILTER_SETS = {"default": DEFAULT_FILTERS, "alpaca_2023": ALPACA_2023_FILTERS}
OLD_NAMES = {
    "instruction_length": ("instruction_too_short", "instruction_too_long"),
    "output_length": ("input_too_long", "output_too_long"),
    "language_sanity": ("wrong_language", "syntax_error"),
    "secrets": ("secret",),
    "legacy_2023": ("alpaca_2023",),  # old name
}


class Filter(NamedTuple):
    """A filter and its name in a config."""

    name: str
    function: Callable[[Example], Any]

    def find_reason(self, example: Example) -> str:
        """Return the reason to drop a row, or "" to keep it; raise PluginError for a user's bug."""
        if self.name in FILTERS:
            result = self.function(example)
        else:
            result = call_plugin(self.name, self._describe(example), self.function, example)
        result = _convert_bool(result)
        if result is None or result is True:
            return ""
        if isinstance(result, tuple) and len(result) == 2 and _convert_bool(result[0]) is False:
            result = result[1]
        if result is False:
            return self.name.rpartition(":")[2]
        if isinstance(result, str) and result.strip():
            return _clean(result)
        returned = _clean(reprlib.repr(result))
        raise PluginError(
            f"{self._describe(example)}: it returned {returned}; return None or True to keep a "
            "row, or False, a reason, or (False, reason) to drop it"
        )

    def find_evidence(self, example: Example) -> str:
        """Return what the filter found in a row that it drops; "" if only the reason is known."""
        find = FINDINGS.get(self.name)
        return _clean(find(example)) if find else ""

    def _describe(self, example: Example) -> str:
        return f"filter {self.name} failed on the row {_clean(example.instruction)!r}"


def load_filters(names: Iterable[str]) -> list[Filter]:
    """Return filters by name (see `resolve_names`): built-in ones in their order, then users'."""
    names = resolve_names(names)
    built_in = [Filter(name, FILTERS[name]) for name in FILTERS if name in names]
    return built_in + [Filter(name, _load(name)) for name in names if is_plugin(name)]


def resolve_names(names: Iterable[str], *, warn: bool = False) -> list[str]:
    """Return names of filters, with FILTER_SETS and old names expanded.

    Args:
        names: names of filters and sets, and users' filters as FILE.py:NAME.
        warn: print a line for each old name.

    Raises:
        ValueError: there is no filter of a name.
    """
    resolved: list[str] = []
    for name in names:
        if name in OLD_NAMES:
            if warn:
                console.warning(
                    f"filters: {name} is now called {', '.join(OLD_NAMES[name])}; the old name "
                    "still works, but change it"
                )
            resolved += resolve_names(OLD_NAMES[name])
        elif name in FILTER_SETS:
            resolved += FILTER_SETS[name]
        elif name in FILTER_NAMES or is_plugin(name):
            resolved.append(name)
        else:
            known = (*FILTER_SETS, *FILTER_NAMES)
            choices = f"choose from {', '.join(known)}, or write FILE.py:NAME for your own"
            raise ValueError(f"no filter {name!r}; {did_you_mean(name, known, choices)}")
    if "prompt_leak" in resolved:  # which included reasoning_leak until each had its own name
        resolved.insert(resolved.index("prompt_leak") + 1, "reasoning_leak")
    return list(dict.fromkeys(resolved))


def _load(name: str) -> Callable[[Example], Any]:
    function, fault = load_plugin(name, kind="filter").value, ""
    if not callable(function):
        fault = "is not a function"
    elif isinstance(function, type):
        fault = "is a class"
    else:
        with contextlib.suppress(ValueError):  # some callables have no signature
            try:
                inspect.signature(function).bind(None)
            except TypeError:
                fault = "cannot be called with one argument"
    if fault:
        define = f"def {name.rpartition(':')[2]}(example): ..."
        raise InputError(f"filter {name} {fault}; define it as `{define}`")
    return function


def _convert_bool(value: Any) -> Any:
    """Return a NumPy bool as a bool, and any other value as it is."""
    is_bool = str(getattr(value, "dtype", "")) == "bool" and getattr(value, "ndim", None) == 0
    return bool(value) if is_bool else value


def _clean(text: str) -> str:
    """Return the beginning of a text on one line, as every file can store it."""
    return " ".join(text.split())[:MAX_REASON_CHARACTERS].encode("utf-8", "replace").decode()

"""Load a filter, strategy or benchmark from a user's Python file, written as `my_file.py:name`.

The file runs in this process with the user's rights, like any script of theirs. It is read once, so
the SHA-256 that identifies the run is that of the executed text.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
import traceback
import types
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca.core.errors import InputError, error_message

REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)")


class Plugin(NamedTuple):
    """An object from a user's file."""

    value: Any
    sha256: str  # of the file's bytes, in hexadecimal


def is_plugin(reference: str) -> bool:
    """Return whether a config value has the form FILE.py:NAME."""
    return REFERENCE.fullmatch(reference) is not None


def load_plugin(reference: str, kind: str) -> Plugin:
    """Execute a user's file once per process, and return the object at FILE.py:NAME.

    Raises:
        InputError: the file cannot be read, raises an exception, or does not define the name.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise InputError(f"{kind} {reference!r} is not of the form FILE.py:NAME")
    path, name = Path(match["path"]), match["name"]
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {kind} file {path}: {error.strerror}; check the path, which is relative "
            "to the working directory"
        ) from None
    sha256 = hashlib.sha256(source).hexdigest()
    try:
        module = _execute(path.resolve(), source, sha256)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"cannot load {kind} {reference}: {describe_error(error, path)}; correct the file"
        ) from None
    if not hasattr(module, name):
        names = [key for key in vars(module) if not key.startswith("_")]
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it defines {', '.join(names)}"
        raise InputError(f"{kind} file {path} does not define {name!r}; {hint}")
    return Plugin(getattr(module, name), sha256)


def describe_error(error: BaseException, path: Path) -> str:
    """Return an exception that a user's file raised, with its line in that file."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path.resolve())
    ]
    message = error_message(error)
    if isinstance(error, SyntaxError) and not lines:
        lines, message = [error.lineno], error.msg
    text = f"{type(error).__name__}: {message}".removesuffix(": ")
    return f"{text} (line {lines[-1]})" if lines and lines[-1] else text


@cache
def _execute(path: Path, source: bytes, sha256: str) -> types.ModuleType:
    """Run a file as a module, which dataclasses and pickle must find in sys.modules."""
    module = types.ModuleType(f"code_alpaca_plugin_{path.stem}_{sha256[:12]}")
    module.__file__ = str(path)
    code = compile(source, str(path), "exec", dont_inherit=True)
    sys.modules[module.__name__] = module
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module

"""Load and call a filter, strategy or benchmark from a user's Python file, `my_file.py:name`.

The file runs in this process with the user's rights, like any script of theirs. While it is loaded,
it can import the Python files next to it. The SHA-256 over it and over those that it imported then
identifies the run.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import inspect
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from code_alpaca.core.errors import InputError, did_you_mean, error_message
from code_alpaca.core.fs import file_sha256

REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)")
T = TypeVar("T")


class PluginError(InputError):
    """A user's file raised an exception, or returned what the protocol does not allow."""


class Plugin(NamedTuple):
    """An object from a user's file."""

    value: Any
    sha256: str  # of the file's bytes, and of the files next to it that it imports
    files: str  # their names, for messages


def is_plugin(reference: str) -> bool:
    """Return whether a config value has the form FILE.py:NAME.

    Raises:
        InputError: it was meant to: FILE.py without a name, or FILE:NAME without the suffix.
    """
    if REFERENCE.fullmatch(reference):
        return True
    path, _, name = reference.partition(":")
    if path.endswith(".py"):
        functions = ", ".join(_list_functions(Path(path)))
        defined = f" (it defines {functions})" if functions else ""
        raise InputError(f"{path} names no function; write {path}:NAME{defined}")
    if name and Path(f"{path}.py").is_file():
        raise InputError(f"{reference} is not of the form FILE.py:NAME; write {path}.py:{name}")
    return False


def load_plugin(reference: str, kind: str) -> Plugin:
    """Execute a user's file once per process, and return the object at FILE.py:NAME.

    Raises:
        InputError: the file cannot be read, raises an exception, or does not define the name.
    """
    match = REFERENCE.fullmatch(reference) if is_plugin(reference) else None
    if match is None:
        raise InputError(f"{kind} {reference!r} is not of the form FILE.py:NAME")
    path, name = Path(match["path"]), match["name"]
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {kind} file {path}: {error.strerror}; check the path, which is relative "
            "to the working directory, not to the config file"
        ) from None
    try:
        loaded = _load(path.resolve(), source)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit
        action = "correct the file"
        if isinstance(error, ModuleNotFoundError) and error.name:
            action = f"install it, or put {error.name}.py next to {path}"
        raise InputError(
            f"cannot load {kind} {reference}: {describe_error(error, path)}; {action}"
        ) from None
    if not hasattr(loaded.module, name):
        names = [key for key in vars(loaded.module) if not key.startswith("_")]
        hint = did_you_mean(name, names, f"it defines {', '.join(names) or 'no names'}")
        raise InputError(f"{kind} file {path} does not define {name!r}; {hint}")
    value = getattr(loaded.module, name)
    if inspect.iscoroutinefunction(value):
        raise InputError(f"{kind} {reference} is an async function; define it with `def`")
    neighbors = ", ".join(file.name for file in loaded.neighbors.values())
    files = f"{path} (with {neighbors})" if neighbors else str(path)
    return Plugin(value, loaded.sha256, files)


def call_plugin(reference: str, what: str, function: Callable[..., T], *args: Any, **kw: Any) -> T:
    """Call a function of a user's file.

    Args:
        what: the beginning of the message if it fails.

    Raises:
        PluginError: it raised an exception; the message names the error and its line in the file.
    """
    try:
        return function(*args, **kw)
    except PluginError as error:  # for example of a template that it renders
        place = _find_place(error, Path(reference.rpartition(":")[0]))
        raise PluginError(f"{error} ({reference}{place and f', {place}'})") from error
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit, and asyncio's CancelledError
        place = describe_error(error, Path(reference.rpartition(":")[0]))
        raise PluginError(f"{what}: {place}; correct the file") from error


def describe_error(error: BaseException, path: Path) -> str:
    """Return an exception that a user's file raised, with its line in it or in its neighbor."""
    place = _find_place(error, path)
    message = str(error.msg) if isinstance(error, SyntaxError) else error_message(error)
    text = f"{type(error).__name__}: {message}".removesuffix(": ")
    return f"{text} ({place})" if place else text


def _find_place(error: BaseException, path: Path) -> str:
    """Return the innermost line of a user's file or its neighbors in a traceback; "" if none."""
    path = path.resolve()
    places = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == str(path)
        or _is_neighbor(path.parent, frame.f_globals.get("__name__"), frame.f_code.co_filename)
    ]
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        file = Path(error.filename)
        if file == path or (file.is_file() and path.parent in file.parents):
            places.append((file, error.lineno))
    if not places:
        return ""
    file, line = places[-1]
    return f"line {line}" if file == path else f"{file.relative_to(path.parent)}, line {line}"


class _Loaded(NamedTuple):
    """An executed file, and the files next to it that it imported."""

    module: types.ModuleType
    neighbors: dict[str, Path]  # by module name
    sha256: str


_LOADED: dict[Path, _Loaded] = {}


def _load(path: Path, source: bytes) -> _Loaded:
    """Execute a file as a module, unless it is loaded and unchanged."""
    loaded = _LOADED.get(path)
    if loaded is not None and loaded.sha256 == _hash_files(source, loaded.neighbors):
        return loaded
    # Dataclasses and pickle must find the module in sys.modules.
    module = types.ModuleType(f"code_alpaca_plugin_{path.stem}_{_hash_files(source, {})[:12]}")
    module.__file__ = str(path)
    code = compile(source, str(path), "exec", dont_inherit=True)
    sys.modules[module.__name__] = module
    neighbors: dict[str, Path] = {}
    try:
        with _importable(path.parent, neighbors):
            exec(code, vars(module))
    except BaseException:
        for name in (module.__name__, *neighbors):
            sys.modules.pop(name, None)
        raise
    _LOADED[path] = _Loaded(module, neighbors, _hash_files(source, neighbors))
    return _LOADED[path]


def _hash_files(source: bytes, neighbors: Mapping[str, Path]) -> str:
    """Return the SHA-256 of a file, or of its hash and those of its neighbors."""
    sha256 = hashlib.sha256(source).hexdigest()
    for name, path in sorted(neighbors.items()):
        sha256 = hashlib.sha256(f"{sha256} {name} {file_sha256(path)}".encode()).hexdigest()
    return sha256


@contextlib.contextmanager
def _importable(folder: Path, imported: dict[str, Path]) -> Iterator[None]:
    """Make the modules of a folder importable, and collect those that are imported meanwhile.

    They come after installed modules, so that no name in the folder hides one of those.
    """
    for loaded in _LOADED.values():  # another folder may have a module of the same name
        for name in loaded.neighbors:
            sys.modules.pop(name, None)
    before, writes_bytecode = set(sys.modules), sys.dont_write_bytecode
    importlib.invalidate_caches()
    if is_new := str(folder) not in sys.path:
        sys.path.append(str(folder))
    sys.dont_write_bytecode = True  # which may be older than a file edited within the same second
    try:
        yield
    finally:
        if is_new:
            sys.path.remove(str(folder))
        sys.dont_write_bytecode = writes_bytecode
        for name in sorted(sys.modules.keys() - before):
            file = getattr(sys.modules[name], "__file__", None)
            if _is_neighbor(folder, name, file):
                imported[name] = Path(file)


def _is_neighbor(folder: Path, name: str | None, file: str | None) -> bool:
    """Return whether a module was imported from a folder."""
    if not name or not file:
        return False
    parts = folder / name.replace(".", "/")
    return Path(file) in (parts.with_suffix(".py"), parts / "__init__.py")


def _list_functions(path: Path) -> list[str]:
    """Return the public functions and classes that a file defines; none if it cannot be parsed."""
    kinds = ast.FunctionDef | ast.ClassDef
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        nodes = ast.parse(path.read_bytes()).body
        return [n.name for n in nodes if isinstance(n, kinds) and not n.name.startswith("_")]
    return []

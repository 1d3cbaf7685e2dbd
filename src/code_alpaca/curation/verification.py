"""Run an answer, with its tests where it has some, and say what came of it.

Verdicts: `passed` its tests; `no_tests`, it ran to its end and nothing checks it; `failed` an
assertion; `error`, it broke; `timeout`; `env_missing`, it wants what a sandbox has not (a module,
a file, a name from elsewhere, a user who types); `not_python`, no code of a language that runs
here. Passing tests of the teacher's own is evidence, not proof.

Of an answer in Markdown the code in its fences is run: all of it, then the longest block. A
program that breaks alone is run once more behind the row's input, where that is code: many tasks
put the data there.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module

from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import cache_dir
from code_alpaca.core.schema import Example
from code_alpaca.curation.language_detection import (
    PYTHON,
    contains_sentences,
    detect_language,
    extract_programs,
    is_code,
    is_valid_python,
)
from code_alpaca.sandbox import ResourceLimits, RunResult, WorkerPool, interpreters

LIMITS = ResourceLimits(wall_s=10.0, memory_mb=512, folder_bytes=16 << 20)
NOT_RUN = ("no_tests", "not_python", "env_missing", "skipped")
VERSION = 2  # of the verdicts; cached ones of another version are not read
MISSING = re.compile(
    r"^(ModuleNotFoundError|ImportError|FileNotFoundError|socket\.gaierror|ConnectionError|"
    r"PermissionError|OSError|_tkinter\.TclError|urllib\.error\.URLError)\b|"
    r"Cannot find (module|package)|no such table|no such column",
    re.MULTILINE,
)
# Without tests: a fragment's names stand elsewhere, and a script waits for words from its user.
FRAGMENT = re.compile(r"^(NameError|EOFError|SyntaxError: '(return|yield|await)')", re.MULTILINE)
# A task that wants a script to end in an error, and the place where it did.
ASKS_TO_RAISE = re.compile(
    r"\b(rais|throw|trigger|caus|simulat|demonstrat|produc|generat)\w*\b.{0,80}"
    r"\b(exceptions?|errors?|\w+(Error|Exception))\b",
    re.IGNORECASE | re.DOTALL,
)
ASKS_TO_REPAIR = re.compile(
    r"\b(fix|debug|correct|repair|resolv|avoid|prevent)\w*\b", re.IGNORECASE
)
FRAME = re.compile(r'^  File "([^"]+)", line (\d+)', re.MULTILINE)
MISSING_NAME = re.compile(r"^NameError: name '(\w+)' is not defined", re.MULTILINE)
DEFINING = ("typing", "dataclasses", "enum", "abc", "functools", "contextlib", "collections",
            "collections.abc", "datetime", "decimal", "fractions", "pathlib", "unittest",
            "threading", "types")  # fmt: skip
ASKS_USER = re.compile(r"\bsys\.argv\b|\bargparse\b|\bprocess\.argv\b")
SQLITE = """\
import sqlite3
db = sqlite3.connect(":memory:")
for script in {scripts!r}:
    db.executescript(script)
"""


class Verifier:
    """Gives verdicts on rows, by running them in the sandboxes of a pool; safe in many threads.

    The verdict on the same program in the same sandbox is looked up, not run again, also in
    another run: they are kept in the user's cache folder.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self._cache = _Cache(f"{VERSION} {pool.backend} {sys.version}")
        self._runs_javascript = _available("javascript", pool)

    def close(self) -> None:
        self.pool.close()
        self._cache.close()

    def has_program(self, example: Example) -> bool:
        """Whether there is something to run, and so something to wait for."""
        return bool(self._programs(example))

    def verify(self, example: Example) -> str:
        """One of the words above."""
        programs = self._programs(example)
        if not programs:
            return "not_python"
        # Of the instruction only a wish for an error changes how the same end is judged.
        wish = example.instruction if ASKS_TO_RAISE.search(example.instruction) else ""
        key = json.dumps([detect_language(example), bool(example.tests.strip()), programs, wish])
        if (known := self._cache.get(key)) is not None:
            return known
        verdict = self._run(example, programs)
        if verdict != "timeout":  # which a busy machine may have caused
            self._cache.put(key, verdict)
        return verdict

    def _programs(self, example: Example) -> list[str]:
        """What to run, in turn, until one comes to its end."""
        language, text = detect_language(example), example.output
        programs = extract_programs(text, language)
        if language == "python":
            if example.tests.strip():
                return [f"{program}\n\n{example.tests}\n" for program in programs or [text]]
            programs = list(filter(_is_program, programs))
            return _behind_input(programs, example, is_valid_python)
        if language == "javascript" and self._runs_javascript:
            return _behind_input(list(filter(is_code, programs)), example, is_code)
        if language == "sql":
            scripts = [script for script in programs if is_code(script + ";")]
            before = next(iter(extract_programs(example.input, "sql")), example.input)
            return [SQLITE.format(scripts=[before, script]) for script in scripts[:1]]
        return []

    def _run(self, example: Example, programs: list[str]) -> str:
        language, tested = detect_language(example), bool(example.tests.strip())
        verdicts: list[str] = []
        for program in programs:
            if language == "javascript":
                result = interpreters.run_program(self.pool, language, program, LIMITS.wall_s)
            else:
                result = self.pool.run_program(program, LIMITS)
            verdict = _read(result, program, language, tested)
            if verdict == "error" and not tested and _raised_as_asked(result, program, example):
                verdict = "no_tests"
            verdicts.append(verdict)
            if verdicts[-1] in ("passed", "no_tests", "timeout"):
                return verdicts[-1]
        return "env_missing" if "env_missing" in verdicts else verdicts[0]


def _is_program(text: str) -> bool:
    """Whether there is a program to run, not words or a header whose body is left out.

    What no Python reads and shows no sign of it is a file of another kind: a task may name Python
    and want a Dockerfile.
    """
    if not is_code(text) or is_valid_python(text):
        return is_code(text)
    return bool(PYTHON.search(text)) and not (
        contains_sentences(text) or is_valid_python(text.rstrip() + " pass")
    )


def _behind_input(programs: list[str], example: Example, fits: Callable[[str], bool]) -> list[str]:
    """Each program alone, then behind the input where that is code."""
    given = extract_programs(example.input, detect_language(example))
    before = given[0].strip() if given else ""
    if not before or not fits(before):
        return programs
    return [text for program in programs for text in (program, f"{before}\n\n{program}")]


def _raised_as_asked(result: RunResult, program: str, example: Example) -> bool:
    """Whether a script ended in the very error that its task wants it to raise.

    That is one from a `raise` or an `assert` of its own, or one that the task names; not where
    the task is to get rid of it.
    """
    if not ASKS_TO_RAISE.search(example.instruction):
        return False
    last_line = result.stderr.rstrip().rpartition("\n")[2]
    name = re.split(r"[:\s]", last_line, maxsplit=1)[0].rpartition(".")[2]
    named = bool(name) and re.search(rf"\b{re.escape(name)}\b", example.instruction)
    if named and not ASKS_TO_REPAIR.search(example.instruction):
        return True
    frames = FRAME.findall(result.stderr)
    if not frames or frames[-1][0] != "program.py" or not is_valid_python(program):
        return False
    line = int(frames[-1][1])
    return any(
        isinstance(node, ast.Raise | ast.Assert) and node.lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(ast.parse(program))
    )


def rejection_reason(verdict: str, *, tested: bool) -> str | None:
    """Why a row with this verdict is dropped, or None.

    What could not be judged is kept, marked: a server never ends, and is right not to.
    """
    if verdict == "passed" or verdict in NOT_RUN or (verdict == "timeout" and not tested):
        return None
    return f"run_{verdict}"


def _read(result: RunResult, program: str, language: str, tested: bool) -> str:
    if result.status == "passed":
        return "passed" if tested else "no_tests"
    if result.status == "exited" and not tested and not ASKS_USER.search(program):
        return "no_tests"  # a script may end itself, whatever it wrote before
    if result.status == "timeout":
        return "timeout"
    fragment = FRAGMENT.search(result.stderr) and not _lacks_import(result, program)
    alone = fragment or ASKS_USER.search(program)
    if MISSING.search(result.stderr) or (alone and not tested):
        return "env_missing"
    if language != "python" and not tested:
        return "env_missing"  # JSX, a browser, another dialect of SQL: no fault that we can tell
    return "failed" if tested and "AssertionError" in result.stderr else "error"


def _lacks_import(result: RunResult, program: str) -> bool:
    """Whether a definition needs a name of the standard library that is not imported.

    A fragment's values may stand elsewhere, but its annotations, decorators and base classes are
    its own: without `from typing import List` it is a broken program.
    """
    missing = MISSING_NAME.findall(result.stderr)
    if not missing or missing[-1] not in _standard_names() or not is_valid_python(program):
        return False
    parts: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts += [*node.decorator_list, node.returns]
        elif isinstance(node, ast.ClassDef):
            parts += [*node.decorator_list, *node.bases, *(each.value for each in node.keywords)]
        elif isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
    return any(
        isinstance(name, ast.Name) and name.id == missing[-1]
        for part in parts
        if part
        for name in ast.walk(part)
    )


@cache
def _standard_names() -> frozenset[str]:
    """Modules of the standard library, and what those for definitions export."""
    exported = (vars(import_module(name)) for name in DEFINING)
    return sys.stdlib_module_names.union(*exported)


def _available(language: str, pool: WorkerPool) -> bool:
    if shutil.which(interpreters.interpreter_name(language)) is None:
        return False
    try:
        interpreters.check_interpreter(language, pool.backend)
    except InputError:
        return False
    return True


class _Cache:
    """Verdicts by the hash of what was run; without a home to write to, nothing is kept."""

    def __init__(self, salt: str) -> None:
        self._salt, self._lock = salt, threading.Lock()
        home = cache_dir()
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(home / "verdicts.sqlite", check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")  # a lost verdict is found again
            self._db.execute("CREATE TABLE IF NOT EXISTS verdicts (key PRIMARY KEY, verdict)")
            self._db.commit()
        except (OSError, sqlite3.Error):
            self._db = sqlite3.connect(":memory:", check_same_thread=False)
            self._db.execute("CREATE TABLE verdicts (key PRIMARY KEY, verdict)")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def get(self, text: str) -> str | None:
        with self._lock:
            try:
                found = self._db.execute(
                    "SELECT verdict FROM verdicts WHERE key = ?", (self._key(text),)
                ).fetchone()
            except sqlite3.Error:
                return None
        return found[0] if found else None

    def put(self, text: str, verdict: str) -> None:
        with self._lock:
            try:
                self._db.execute(
                    "INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (self._key(text), verdict)
                )
                self._db.commit()
            except sqlite3.Error:
                pass  # locked or full: it is run again, and that is all

    def _key(self, text: str) -> str:
        return hashlib.sha256(f"{self._salt}\0{text}".encode("utf-8", "replace")).hexdigest()

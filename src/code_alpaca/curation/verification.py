"""Run the output of a row in a sandbox, with the row's tests if it has any.

Verdicts:

- `passed`: the tests passed, which is evidence and not proof: the teacher wrote them.
- `weak_tests`: they passed, but detect too few faults of the program (see `strength`).
- `no_tests`: the program ran to its end, and the row has no tests.
- `failed`: an assertion of the tests failed.
- `error`: the program failed otherwise.
- `timeout`: it did not end in time.
- `env_missing`: it needs something that the sandbox does not have (a module, a file, a name
  defined elsewhere, user input).
- `not_python`: there is no program in a language that runs here.

From an output in Markdown, the joined code blocks are run, then the longest block. A program that
fails alone is run again after the row's input if that is code, since many tasks put data there.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import re
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

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
from code_alpaca.curation.strength import RESULTS_VERSION, Strength, measure_strength
from code_alpaca.sandbox import ResourceLimits, RunResult, WorkerPool, interpreters

LIMITS = ResourceLimits(wall_s=10.0, memory_mb=512, folder_bytes=16 << 20)
# All faulty copies of a program share a process.
COPY_LIMITS = replace(LIMITS, wall_s=2 * LIMITS.wall_s)
ACCEPTED_VERDICTS = (
    "passed", "weak_tests", "no_tests", "not_python", "env_missing", "skipped",
)  # fmt: skip
VERSION = 2  # cached verdicts of another version are ignored
MISSING = re.compile(
    r"(?m)^(ModuleNotFoundError|ImportError|FileNotFoundError|socket\.gaierror|ConnectionError|"
    r"PermissionError|OSError|_tkinter\.TclError|urllib\.error\.URLError)\b|"
    r"Cannot find (module|package)|no such table|no such column"
)
# Without tests: a fragment uses names that are defined elsewhere, and a script waits for input.
FRAGMENT = re.compile(r"^(NameError|EOFError|SyntaxError: '(return|yield|await)')", re.MULTILINE)
REQUESTS_ERROR = re.compile(
    r"(?is)\b(rais|throw|trigger|caus|simulat|demonstrat|produc|generat)\w*\b.{0,80}"
    r"\b(exceptions?|errors?|\w+(Error|Exception))\b"
)
REQUESTS_REPAIR = re.compile(
    r"\b(fix|debug|correct|repair|resolv|avoid|prevent)\w*\b", re.IGNORECASE
)
FRAME = re.compile(r'^  File "([^"]+)", line (\d+)', re.MULTILINE)
MISSING_NAME = re.compile(r"^NameError: name '(\w+)' is not defined", re.MULTILINE)
# Modules whose names are used in definitions: annotations, decorators and base classes.
DEFINITION_MODULES = ("typing", "dataclasses", "enum", "abc", "functools", "contextlib", "types",
                      "collections", "collections.abc", "datetime", "decimal", "fractions",
                      "pathlib", "unittest", "threading")  # fmt: skip
READS_ARGUMENTS = re.compile(r"\bsys\.argv\b|\bargparse\b|\bprocess\.argv\b")
SQLITE = """\
import sqlite3
db = sqlite3.connect(":memory:")
for script in {scripts!r}:
    db.executescript(script)
"""


class Verifier:
    """Runs rows in the sandboxes of a pool. Thread-safe.

    Verdicts are cached on disk, so a program is run once in all runs of a user.

    Args:
        min_test_strength: share of mutants that tests have to detect; 0: it is not measured.
    """

    def __init__(self, pool: WorkerPool, min_test_strength: float = 0.0) -> None:
        self.pool, self._min_test_strength = pool, min_test_strength
        self._cache = VerdictCache(salt=f"{VERSION} {pool.backend} {sys.version}")
        self._runs_javascript = True
        try:
            interpreters.check_interpreter("javascript", pool.backend)
        except InputError:
            self._runs_javascript = False

    def close(self) -> None:
        """Stop the sandboxes and close the cache."""
        self.pool.close()
        self._cache.close()

    def has_program(self, example: Example) -> bool:
        """Return whether a row has something to run."""
        return bool(self._programs(example))

    def verify(self, example: Example) -> str:
        """Return the verdict on a row (see the module's docstring)."""
        programs = self._programs(example)
        if not programs:
            return "not_python"
        # The instruction matters only if it requests an error.
        request = example.instruction if REQUESTS_ERROR.search(example.instruction) else ""
        has_tests = bool(example.tests.strip())
        key = json.dumps([detect_language(example), has_tests, programs, request])
        if (cached := self._cache.get(key)) is not None:
            return cached
        verdict = self._run(example, programs)
        if verdict != "timeout":  # which a busy machine may have caused
            self._cache.put(key, verdict)
        return verdict

    def check_tests(self, example: Example) -> Example:
        """Return a row that passed with its test strength, and the verdict that follows from it."""
        if not self._min_test_strength:
            return example
        strength = self.measure_tests(example)
        if strength is None:  # tests in a language in which they are not run
            return replace(example, verification="no_tests")
        verdict = "weak_tests" if strength.is_weak(self._min_test_strength) else "passed"
        return replace(example, verification=verdict, test_strength=strength.share)

    def measure_tests(self, example: Example) -> Strength | None:
        """Return the strength of the tests of a row that passed them; None if they are not run."""
        if detect_language(example) != "python" or not example.tests.strip():
            return None
        programs = extract_programs(example.output, "python") or [example.output]
        key = json.dumps(["strength", RESULTS_VERSION, programs, example.tests])
        if (cached := self._cache.get(key)) is not None:
            return Strength(*json.loads(cached))
        measured = (
            measure_strength(self.pool, program, example.tests, COPY_LIMITS) for program in programs
        )
        found = next((result for result in measured if result is not None), None)
        if found is None:  # such as tests that fail at random
            return Strength(None, None)
        if found.is_certain:
            self._cache.put(key, json.dumps(found))
        return found

    def _programs(self, example: Example) -> list[str]:
        """Return the programs to run, one after the other, until one runs to its end."""
        language = detect_language(example)
        programs = extract_programs(example.output, language)
        if language == "python":
            if example.tests.strip():
                programs = programs or [example.output]
                return [f"{program}\n\n{example.tests}\n" for program in programs]
            programs = list(filter(_is_program, programs))
            return _prepend_input(programs, example, is_valid_python)
        if language == "javascript" and self._runs_javascript:
            return _prepend_input(list(filter(is_code, programs)), example, is_code)
        if language == "sql":
            scripts = [script for script in programs if is_code(script + ";")]
            schema = next(iter(extract_programs(example.input, "sql")), example.input)
            return [SQLITE.format(scripts=[schema, script]) for script in scripts[:1]]
        return []

    def _run(self, example: Example, programs: list[str]) -> str:
        language, has_tests = detect_language(example), bool(example.tests.strip())
        verdicts: list[str] = []
        for program in programs:
            if language == "javascript":
                result = interpreters.run_program(self.pool, language, program, LIMITS.wall_s)
            else:
                result = self.pool.run_program(program, LIMITS)
            verdict = _judge(result, program, language, has_tests=has_tests)
            if verdict == "error" and not has_tests:
                requested = _raised_as_requested(result, program, example.instruction)
                verdict = "no_tests" if requested else verdict
            if verdict in ("passed", "no_tests", "timeout"):
                return verdict
            verdicts.append(verdict)
        return "env_missing" if "env_missing" in verdicts else verdicts[0]


def find_rejection_reason(verdict: str, *, has_tests: bool) -> str:
    """Return the reason to reject a row with this verdict, or "" if the verdict is not clear."""
    may_run_forever = verdict == "timeout" and not has_tests  # a server is right not to end
    return "" if verdict in ACCEPTED_VERDICTS or may_run_forever else f"run_{verdict}"


def _is_program(text: str) -> bool:
    """Return whether a text is a Python program, not prose or a header without a body.

    A task may name Python and request a file of another kind, such as a Dockerfile.
    """
    if not is_code(text) or is_valid_python(text):
        return is_code(text)
    if not PYTHON.search(text):
        return False
    return not (contains_sentences(text) or is_valid_python(text.rstrip() + " pass"))


def _prepend_input(
    programs: list[str], example: Example, is_program: Callable[[str], bool]
) -> list[str]:
    """Return each program alone, then after the row's input if that is a program."""
    input_programs = extract_programs(example.input, detect_language(example))
    before = input_programs[0].strip() if input_programs else ""
    if not before or not is_program(before):
        return programs
    return [text for program in programs for text in (program, f"{before}\n\n{program}")]


def _judge(result: RunResult, program: str, language: str, *, has_tests: bool) -> str:
    if result.status == "passed":
        return "passed" if has_tests else "no_tests"
    if result.status == "exited" and not has_tests and not READS_ARGUMENTS.search(program):
        return "no_tests"  # a script may exit with any code
    if result.status == "timeout":
        return "timeout"
    is_fragment = FRAGMENT.search(result.stderr) and not _lacks_import(result, program)
    # In other languages: JSX, a browser API, another SQL dialect, not clearly an error.
    is_incomplete = is_fragment or READS_ARGUMENTS.search(program) or language != "python"
    if MISSING.search(result.stderr) or (is_incomplete and not has_tests):
        return "env_missing"
    return "failed" if has_tests and "AssertionError" in result.stderr else "error"


def _raised_as_requested(result: RunResult, program: str, instruction: str) -> bool:
    """Return whether a script ended in the error that its task requests.

    That is one from a `raise` or `assert`, or one that the instruction names without asking to
    repair it.
    """
    if not REQUESTS_ERROR.search(instruction):
        return False
    last_line = result.stderr.rstrip().rpartition("\n")[2]
    name = re.split(r"[:\s]", last_line, maxsplit=1)[0].rpartition(".")[2]
    is_named = bool(name) and re.search(rf"\b{re.escape(name)}\b", instruction)
    if is_named and not REQUESTS_REPAIR.search(instruction):
        return True
    frames = FRAME.findall(result.stderr)
    if not frames or frames[-1][0] != "program.py" or not is_valid_python(program):
        return False
    line = int(frames[-1][1])
    return any(
        isinstance(node, ast.Raise | ast.Assert) and node.lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(ast.parse(program))
    )


def _lacks_import(result: RunResult, program: str) -> bool:
    """Return whether a definition uses a name of the standard library that is not imported.

    A fragment may use values that are defined elsewhere, but annotations need their imports.
    """
    missing = MISSING_NAME.findall(result.stderr)
    if not missing or missing[-1] not in _standard_names() or not is_valid_python(program):
        return False
    parts: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts += [*node.decorator_list, node.returns]
        elif isinstance(node, ast.ClassDef):
            values = (keyword.value for keyword in node.keywords)
            parts += [*node.decorator_list, *node.bases, *values]
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
    """Return the modules of the standard library and the names in DEFINITION_MODULES."""
    exported = (vars(import_module(name)) for name in DEFINITION_MODULES)
    return sys.stdlib_module_names.union(*exported)


class VerdictCache:
    """Verdicts by the hash of what was run and of `salt`. Thread-safe.

    In memory if the cache folder is read-only. A locked or full database is ignored.
    """

    def __init__(self, salt: str) -> None:
        self._salt, self._lock = salt, threading.Lock()
        path = cache_dir() / "verdicts.sqlite"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open_database(path)
        except (OSError, sqlite3.Error):
            self._db = _open_database(":memory:")

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def get(self, key: str) -> str | None:
        """Return the verdict for a key, or None."""
        row = self._execute("SELECT verdict FROM verdicts WHERE key = ?", self._hash(key))
        return row[0] if row else None

    def put(self, key: str, verdict: str) -> None:
        """Store the verdict for a key."""
        self._execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", self._hash(key), verdict)

    def _execute(self, statement: str, *values: str) -> tuple[str] | None:
        with self._lock, contextlib.suppress(sqlite3.Error):
            row = self._db.execute(statement, values).fetchone()
            self._db.commit()
            return row
        return None

    def _hash(self, key: str) -> str:
        return hashlib.sha256(f"{self._salt}\0{key}".encode("utf-8", "replace")).hexdigest()


def _open_database(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=OFF")  # a lost verdict only costs another run
    database.execute("CREATE TABLE IF NOT EXISTS verdicts (key PRIMARY KEY, verdict)")
    database.commit()
    return database

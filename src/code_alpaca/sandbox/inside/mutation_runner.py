"""Run tests on a program, then on faulty copies of it, all in one confined child.

A process for each copy would take several times as long as the tests themselves. The copies share
one, so three things are done about it. Loops and calls count their steps, so that a copy that never
ends is stopped, at the same step on every machine. The program itself runs first and last: if it
fails the last time, its copies changed something for each other, such as a file, and the caller
runs each in its own process. What is printed is dropped.

A program that targets this file can forge the outcome, as it can in `harness.run_program`.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import functools
import io
import itertools
import json
import math
import operator
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from . import harness
from .mutants import FIRST_VALUE, Mutation, find_constant_stubs, find_mutations, make_stub

FILE = "program.py"
STUB = "stub"
STEP = "__step__"  # a built-in function that every loop and function calls
MAX_STEPS = 20_000_000  # of a program: about two seconds
# A copy, and all copies together, may take this many times its steps, and this many more.
SLOWDOWN, MORE_STEPS = 2, 2_000
SLOWDOWN_OF_ALL, MORE_STEPS_OF_ALL = 2, 300_000
MORE_CPU_SECONDS = 1  # for what counts no steps, such as matching a regular expression
COMPILE_ERRORS = (SyntaxError, ValueError, TypeError, RecursionError, MemoryError)
Loop = ast.For | ast.AsyncFor | ast.While
Function = ast.FunctionDef | ast.AsyncFunctionDef


def run_mutants(fd: int) -> None:
    """Report for each faulty copy of a program whether the tests detect it.

    The lines that it sends, in this order:

    - `{"passed": true}`: the tests pass on the program; if they do not, or it takes more than
      MAX_STEPS, this is the only line.
    - `{"copy": n, "operator": "stub" or one of `mutants.OPERATORS`, "detected": true}` for each
      copy, from `first` on; `detected` is null if the copy is the program, or does not compile.
      Copies after a stub that is not detected, and after `max_mutants`, are left out, as are those
      of a slow program after too many steps.
    - `{"done": true}` after the last copy.
    - `{"stable": true}`: the tests still pass on the program, as far as there was time to check.

    With `alone`, only one copy runs, and the program itself does not.
    """
    order = json.loads(harness.Channel(fd).readline())
    harness.add_recursion_headroom()
    run = MutationRun(order["program"], order["tests"])
    if not order["alone"]:
        passed = run.passes(run.code)
        harness.Channel(fd).send({"passed": passed})
        if not passed:
            return
        run.limit_copies()
    mutants = 0
    for number, (name, compile_copies) in enumerate(run.copies()):
        if number < order["first"]:
            continue
        if mutants == order["max_mutants"] or run.is_over_budget():
            break
        copies = [code for code in compile_copies() if code is not None]
        detected = not all(map(run.passes, copies)) if copies else None
        harness.Channel(fd).send({"copy": number, "operator": name, "detected": detected})
        if order["alone"] and detected is not None:
            return
        if name == STUB and detected is False:
            break
        mutants += name != STUB and detected is not None
    harness.Channel(fd).send({"done": True})
    stable = order["alone"] or run.is_over_budget() or run.passes(run.code)
    harness.Channel(fd).send({"stable": stable})


class MutationRun:
    """A program and its tests, compiled so that they count their steps."""

    def __init__(self, program: str, tests: str) -> None:
        program = program.removeprefix("\ufeff")
        self._text = f"{program}\n\n{tests}\n"
        tree = ast.parse(self._text)
        last_line = len(program.split("\n"))
        self._length = sum(statement.lineno <= last_line for statement in tree.body)
        self._tree = ast.Module(tree.body[: self._length], [])
        self._mutations = find_mutations(self._tree, program)
        self._constant_stubs = find_constant_stubs(self._tree)
        _insert_steps(tree)
        self.code = compile(self._tree, FILE, "exec", dont_inherit=True)
        # The tests are in one file with the program, and so under its `from __future__ import`.
        flags = self.code.co_flags & __future__.annotations.compiler_flag
        test_tree = ast.Module(tree.body[self._length :], [])
        self._tests = compile(test_tree, FILE, "exec", flags, dont_inherit=True)
        self._steps, self._max_steps = 0, MAX_STEPS  # of one run
        self._steps_left = 0  # of all copies
        self._cpu_seconds, self._max_cpu_seconds = 0.0, 0.0
        setattr(builtins, FIRST_VALUE, FirstValues())

    def passes(self, code: CodeType) -> bool:
        """Run the code of the program or of a copy, then the tests."""
        names = vars(harness.make_module("__main__", self._text, FILE))
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
        random.seed(0)  # so that tests with random inputs always give the same result
        # Beyond the maximum it raises StopIteration. A Python function would take five times as
        # long to count.
        counter = itertools.repeat(True, self._max_steps)
        setattr(builtins, STEP, counter.__next__)
        started = time.process_time()
        self._limit_cpu_time(started)
        passed = True
        try:
            exec(code, names)
            exec(self._tests, names)
        except SystemExit as error:
            passed = harness.classify_exit(error) == harness.PASSED
        except BaseException:
            passed = False
        self._cpu_seconds = time.process_time() - started
        self._steps = self._max_steps - operator.length_hint(counter)
        self._steps_left -= self._steps
        return passed and self._steps < self._max_steps  # the tests may catch StopIteration

    def limit_copies(self) -> None:
        """Limit what runs from now on by the steps and the time of the last run."""
        self._max_steps = SLOWDOWN * self._steps + MORE_STEPS
        self._steps_left = SLOWDOWN_OF_ALL * self._steps + MORE_STEPS_OF_ALL
        self._max_cpu_seconds = SLOWDOWN * self._cpu_seconds + MORE_CPU_SECONDS

    def is_over_budget(self) -> bool:
        """Return whether the copies took too many steps."""
        return self._steps_left < 0

    def copies(self) -> Iterator[tuple[str, Callable[[], Iterator[CodeType | None]]]]:
        """Yield the operator of each copy, and a function that compiles it.

        That yields the copy, or one for each function that a stub replaces. It is None if it does
        not compile, or compiles to the code of the program.
        """
        yield STUB, self._compile_stub
        yield STUB, functools.partial(self._compile_mutants, self._constant_stubs)
        for mutation in self._mutations:
            yield mutation.operator, functools.partial(self._compile_mutants, [mutation])

    def _compile_stub(self) -> Iterator[CodeType | None]:
        stub = ast.Module(ast.parse(self._text).body[: self._length], [])
        make_stub(stub)
        _insert_steps(stub)
        yield self._compile(stub)

    def _compile_mutants(self, mutations: list[Mutation]) -> Iterator[CodeType | None]:
        for mutation in mutations:
            with mutation.applied():
                code = self._compile(self._tree)
            yield code

    def _compile(self, tree: ast.Module) -> CodeType | None:
        try:
            code = compile(tree, FILE, "exec", dont_inherit=True)
        except COMPILE_ERRORS:
            return None
        return None if code == self.code else code

    def _limit_cpu_time(self, now: float) -> None:
        """Have the kernel end this process if the next run takes too long."""
        _, largest = resource.getrlimit(resource.RLIMIT_CPU)
        if self._max_cpu_seconds:
            limit = min(math.ceil(now + self._max_cpu_seconds), largest)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, largest))


def _insert_steps(tree: ast.Module) -> None:
    """Have each loop, comprehension and function count a step."""
    (step,) = ast.parse(f"{STEP}()").body
    for node in list(ast.walk(tree)):
        if isinstance(node, Loop | Function):
            documented = isinstance(node, Function) and ast.get_docstring(node) is not None
            node.body.insert(int(documented), step)
        elif isinstance(node, ast.comprehension):
            node.ifs.insert(0, step.value)


class FirstValues:
    """A decorator: a function returns what its first call returned.

    Calls that decorated functions make while one of them runs are not changed.
    """

    def __init__(self) -> None:
        self._is_running = False

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        values: list[Any] = []

        @functools.wraps(function)
        def return_first_value(*args: Any, **kwargs: Any) -> Any:
            if self._is_running:
                return function(*args, **kwargs)
            if not values:
                self._is_running = True
                try:
                    values.append(function(*args, **kwargs))
                finally:
                    self._is_running = False
            return values[0]

        return return_first_value

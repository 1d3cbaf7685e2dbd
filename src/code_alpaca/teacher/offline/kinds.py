"""The kinds of task that the embedded teacher poses, each a function of its random source.

To add one: write the function, and give it a weight in `KINDS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from code_alpaca.teacher.offline.grammar import (
    camel,
    draw,
    function_of,
    in_language,
    sample,
    say,
    tests_for,
)  # fmt: skip
from code_alpaca.teacher.offline.parts import AGGREGATES, LANGUAGE_NAMES, LANGUAGES, NUMBERS, TABLES


@dataclass(frozen=True, slots=True)
class Task:
    """One composed task; `tests` are asserts for a Python answer, "" for others."""

    instruction: str
    input: str
    output: str
    language: str
    tests: str
    task_type: str
    difficulty: str


def compose(rng: random.Random) -> Task:
    """One task, a pure function of the state of `rng`."""
    kinds, weights = zip(*KINDS, strict=True)
    return rng.choices(kinds, weights)[0](rng)


def _python(rng: random.Random) -> Task:
    item = draw(rng)
    difficulty = "easy" if item.expression == "v" else "medium"
    tests = tests_for(rng, item)
    return Task(say(rng, item), "", item.code, "python", tests, "generation", difficulty)


def _other_language(rng: random.Random) -> Task:
    language = rng.choice(sorted(LANGUAGES))
    item, code = in_language(rng, language)
    return Task(say(rng, item, language), "", code, language, "", "generation", "medium")


def _translation(rng: random.Random) -> Task:
    language = rng.choice(sorted(LANGUAGES))
    item, code = in_language(rng, language)
    target = LANGUAGE_NAMES[language]
    ask = rng.choice(
        (
            "Translate this Python function into {t}.",
            "Port the helper `{n}` below from Python to {t}, keeping what it computes.",
            "What would the following look like in {t}? It yields {w}.",
            "Our service moves to {t}. Rewrite the given Python code accordingly.",
            "Convert to idiomatic {t}; the function computes {w}.",
        )
    ).format(t=target, n=item.name, w=item.what)
    return Task(ask, item.code, code, language, "", "translation", "medium")


def _debugging(rng: random.Random) -> Task:
    item = draw(rng)
    wrong = draw(rng, item.kind)
    while wrong.condition == item.condition:
        wrong = draw(rng, item.kind)
    broken = item.code.replace(f"if {item.condition}", f"if {wrong.condition}")
    ask = rng.choice(
        (
            "`{n}` should compute {w}, but it selects the wrong elements. Repair it.",
            "A test for {w} fails. Find and fix the bug in this code.",
            "Why does this not return {w}? Correct the condition and show the function.",
            "The condition of the function below is wrong: {w} is what callers expect. Debug it.",
            "Users report bad results from `{n}`. It was meant to give {w}. Mend the code.",
        )
    ).format(n=item.name, w=item.what)
    return Task(ask, broken, item.code, "python", tests_for(rng, item), "debugging", "medium")


def _completion(rng: random.Random) -> Task:
    item = draw(rng)
    ask = rng.choice(
        (
            "Finish this Python function.",
            "Complete the body so that the docstring comes true: {w}.",
            "Fill in what is missing and return {w}.",
            "The stub below only documents {w}; write its implementation.",
            "Replace the ellipsis in `{n}` with working code.",
        )
    ).format(n=item.name, w=item.what)
    stub = f'def {item.name}({item.argument}):\n    """Return {item.what}."""\n    ...'
    return Task(ask, stub, item.code, "python", tests_for(rng, item), "completion", "easy")


def _editing(rng: random.Random) -> Task:
    item = draw(rng)
    new = (
        rng.choice(("compute", "select", "pick", "evaluate", "process", "summarize"))
        + "_"
        + item.name
    )
    ask = rng.choice(
        (
            "Rename the function to `{new}` and change nothing else.",
            "Our style guide wants `{new}` as the name of this helper. Edit the code.",
            "Give `{n}`, which computes {w}, the clearer name `{new}`.",
            "Edit: `{n}` becomes `{new}`; the behaviour stays {w}.",
        )
    ).format(n=item.name, new=new, w=item.what)
    tests = tests_for(rng, item).replace(f"{item.name}(", f"{new}(")
    output = item.code.replace(f"def {item.name}(", f"def {new}(")
    return Task(ask, item.code, output, "python", tests, "editing", "easy")


def _optimization(rng: random.Random) -> Task:
    item = draw(rng)
    while item.reduction.name not in ("sum", "list"):
        item = draw(rng)
    start, step = (
        ("0", "result += {e}")
        if item.reduction.name == "sum"
        else ("[]", "result = result + [{e}]")
    )
    loop = (
        f"def {item.name}({item.argument}):\n    result = {start}\n    for v in {item.source}:\n"
        f"        if {item.condition}:\n            {step.format(e=item.expression)}\n"
        "    return result"
    )
    ask = rng.choice(
        (
            "Make this faster and shorter with a comprehension.",
            "Replace the explicit loop for {w} by one expression.",
            "Rewrite `{n}` without the accumulator variable.",
            "Speed up the code, which builds {w} step by step.",
            "Refactor: the loop in `{n}` can be a single return statement giving {w}.",
        )
    ).format(n=item.name, w=item.what)
    return Task(ask, loop, item.code, "python", tests_for(rng, item), "optimization", "medium")


def _explanation(rng: random.Random) -> Task:
    item = draw(rng)
    ask = rng.choice(
        (
            "Explain in one sentence what this Python function returns.",
            "What does `{n}` do?",
            "Describe the purpose of the code below to a beginner.",
            "Summarize the behaviour of `{n}` for its documentation.",
            "Read this snippet and say which result it gives.",
            "A colleague asks about `{n}`: what is its return value?",
        )
    ).format(n=item.name)
    verb = rng.choice(("returns", "computes", "gives back"))
    output = f"`{item.name}` {verb} {item.what} in `{item.argument}`."
    return Task(ask, item.code, output, "python", "", "explanation", "easy")


def _classification(rng: random.Random) -> Task:
    language = rng.choice(sorted(LANGUAGES))
    item, code = in_language(rng, language)
    if rng.random() < 0.5:
        ask = rng.choice(
            (
                "Which programming language is this? Answer with its name only.",
                "Name the language of the snippet that computes {w}.",
                "Classify the source code below by language.",
                "Identify the language in which `{n}` is written.",
            )
        ).format(w=item.what, n=camel(item.name, language))
        return Task(ask, code, LANGUAGE_NAMES[language], language, "", "classification", "easy")
    ask = rng.choice(
        (
            "State the time complexity of `{n}` in Big-O notation.",
            "How does the running time of this code grow with the size of its argument?",
            "Constant, linear or quadratic: how expensive is it to get {w} this way?",
        )
    ).format(n=item.name, w=item.what)
    cost = "O(n): each element is looked at once."
    if item.reduction.name == "sorted":
        cost = "O(n log n): sorting dominates the single pass over the elements."
    return Task(ask, item.code, cost, "python", "", "classification", "medium")


def _testing(rng: random.Random) -> Task:
    item = draw(rng)
    ask = rng.choice(
        (
            "Write a pytest function with asserts that check this code.",
            "Add three unit tests, as plain asserts in `test_{n}`, for code that gives {w}.",
            "Test the code below on two ordinary arguments and an empty one, pytest style.",
            "Which asserts would catch a regression in {w}? Put them into a test function.",
        )
    ).format(n=item.name, w=item.what)
    asserts = tests_for(rng, item).replace("\n", "\n    ")
    output = f"def test_{item.name}():\n    {asserts}"
    tests = f"{item.code}\n\ntest_{item.name}()"
    return Task(ask, item.code, output, "python", tests, "testing", "medium")


def _sql(rng: random.Random) -> Task:
    table, (number, group, category, options) = rng.choice(list(TABLES.items()))
    function, words = rng.choice(list(AGGREGATES.items()))
    option, limit = rng.choice(options), rng.choice(NUMBERS) * 5
    said, column = rng.choice(words), f"{function}({number})"
    condition, told = rng.choice(
        (
            (f"{category} = '{option}'", f"where the {category} is {option}"),
            (f"{number} > {limit}", f"with a {number} above {limit}"),
            (f"{category} <> '{option}'", f"leaving out the {category} {option}"),
        )
    )
    asks = (
        "Write a SQL query for the {s} {n} per {g} in table `{t}`, {w}.",
        "From `{t}`, show each {g} with its {s} {n}, {w}.",
        "Which SQL statement lists the {s} {n} of every {g}? Take rows of `{t}` {w}.",
        "Group `{t}` by {g} and report the {s} {n}, {w}. Use SQL.",
        "Our dashboard needs one row for every {g}: its {s} {n}, {w}. Query `{t}`.",
    )
    ask = rng.choice(asks).format(s=said, n=number, g=group, t=table, w=told)
    query = f"SELECT {group}, {column}\nFROM {table}\nWHERE {condition}\nGROUP BY {group}"
    if rng.random() < 0.5:
        ask += rng.choice((f" Sort by {group}.", f" Order the result alphabetically by {group}."))
        query += f"\nORDER BY {group}"
    return Task(ask, "", query + ";", "sql", "", "sql", "medium")


def _shell(rng: random.Random) -> Task:
    number, limit = rng.randint(2, 9), rng.choice(NUMBERS) * 10
    ending = rng.choice(("log", "csv", "txt", "md", "json", "py"))
    word = rng.choice(("ERROR", "warning", "timeout", "user", "failed", "GET"))
    asks, code = rng.choice(
        (
            (("Print the number of lines of every .{x} file here, using the shell.",
              "Bash: count lines in all *.{x} files of this folder."), f"wc -l -- *.{ending}"),
            (("Which shell command shows the lines with {w} in {x}.txt, numbered?",
              "Search {x}.txt for {w} from the terminal and show line numbers."),
             f"grep -n '{word}' {ending}.txt"),
            (("Add up column {n} of the comma-separated file {x}.csv with awk.",
              "A one-liner, please: the total of CSV field {n} in {x}.csv."),
             f"awk -F, '{{ total += ${number} }} END {{ print total }}' {ending}.csv"),
            (("Show the {l} most frequent lines of {x}.txt with their counts.",
              "Rank the repeated lines in {x}.txt; only the top {l} matter."),
             f"sort {ending}.txt | uniq -c | sort -rn | head -n {limit}"),
            (("Find every .{x} file below this folder that changed in the last {n} days.",
              "List *.{x} files, recursively, modified within {n} days (bash)."),
             f"find . -name '*.{ending}' -mtime -{number}"),
            (("Keep the rows of {x}.csv whose field {n} exceeds {l}, with awk.",
              "Filter {x}.csv on the command line: column {n} must be above {l}."),
             f"awk -F, '${number} > {limit}' {ending}.csv"),
        )
    )  # fmt: skip
    ask = rng.choice(asks).format(x=ending, w=word, n=number, l=limit)
    return Task(ask, "", code, "bash", "", "shell", "medium")


def _regex(rng: random.Random) -> Task:
    low = rng.randint(2, 6)
    high = low + rng.randint(1, 6)
    kind, character_class = rng.choice(
        (
            ("digits", "[0-9]"), ("capital letters", "[A-Z]"), ("small letters", "[a-z]"),
            ("hexadecimal digits", "[0-9a-fA-F]"), ("lower-case vowels", "[aeiou]"),
            ("binary digits", "[01]"),
        )
    )  # fmt: skip
    prefix = rng.choice(("", "ID-", "v", "#", "0x", "no."))
    start = f' after the prefix "{prefix}"' if prefix else ""
    ask = rng.choice(
        (
            "Write a regular expression for {a} to {b} {k}{s}, matching the whole string.",
            "Which regex accepts exactly {a} up to {b} {k}{s} and nothing more?",
            "Validate a code with a pattern: between {a} and {b} {k}{s}.",
        )
    ).format(a=low, b=high, k=kind, s=start)
    pattern = f"^{prefix.replace('.', chr(92) + '.')}{character_class}{{{low},{high}}}$"
    return Task(ask, "", pattern, "regex", "", "regex", "medium")


def _structure(rng: random.Random) -> Task:
    limit = rng.choice(NUMBERS) * 5
    item = draw(rng, "numbers")
    while item.reduction.name not in ("sum", "list", "largest", "smallest"):
        item = draw(rng, "numbers")
    name = rng.choice(("Bag", "Buffer", "Collector", "Tracker", "Window", "Recorder", "Journal"))
    body = item.reduction.code.format(c=item.condition, e=item.expression).replace(
        "values", "self.items"
    )
    code = (
        f"class {name}:\n    def __init__(self):\n        self.items = []\n\n"
        "    def add(self, value):\n"
        f"        self.items.append(value)\n        del self.items[:-{limit}]\n\n"
        f"    def {item.name}(self):\n        return {body}"
    )
    ask = rng.choice(
        (
            "Write a Python class `{c}` that remembers the last {l} added values and whose method "
            "`{n}` returns {w}.",
            "Design a bounded container, `{c}`, for at most {l} recent numbers; `add` stores one, "
            "`{n}` tells {w}.",
            "Model a `{c}` in Python: old entries vanish beyond {l}, and `{n}()` answers with {w}.",
        )
    ).format(c=name, l=limit, n=item.name, w=item.what)  # fmt: skip
    values = sample(rng, "numbers")
    expected = function_of(item.code, item.name)(values)
    tests = (
        f"box = {name}()\nfor value in {values!r}:\n    box.add(value)\n"
        f"assert box.{item.name}() == {expected!r}\n"
        f"for value in range({limit + 9}):\n    box.add(value)\n"
        f"assert len(box.items) == {limit}"
    )
    return Task(ask, "", code, "python", tests, "data_structures", "hard")


KINDS: tuple[tuple[Callable[[random.Random], Task], int], ...] = (
    (_python, 46), (_other_language, 8), (_translation, 5), (_debugging, 7), (_completion, 6),
    (_editing, 3), (_optimization, 4), (_explanation, 4), (_classification, 3), (_testing, 3),
    (_sql, 5), (_shell, 2), (_regex, 2), (_structure, 2),
)  # fmt: skip

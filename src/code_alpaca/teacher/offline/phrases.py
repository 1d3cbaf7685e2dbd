"""Instruction templates of the embedded teacher, by kind of task.

These texts are data: changing one changes the datasets that the embedded teacher generates.
Placeholders: {n} function name, {w} description of its result, {t} target language, {new} new name;
those of SQL, shell, regular expressions and data structures are described at their use in `tasks`.
"""

TRANSLATION = (
    "Translate this Python function into {t}.",
    "Port the helper `{n}` below from Python to {t}, keeping what it computes.",
    "What would the following look like in {t}? It yields {w}.",
    "Our service moves to {t}. Rewrite the given Python code accordingly.",
    "Convert to idiomatic {t}; the function computes {w}.",
)
DEBUGGING = (
    "`{n}` should compute {w}, but it selects the wrong elements. Repair it.",
    "A test for {w} fails. Find and fix the bug in this code.",
    "Why does this not return {w}? Correct the condition and show the function.",
    "The condition of the function below is wrong: {w} is what callers expect. Debug it.",
    "Users report bad results from `{n}`. It was meant to give {w}. Mend the code.",
)
COMPLETION = (
    "Finish this Python function.",
    "Complete the body so that the docstring comes true: {w}.",
    "Fill in what is missing and return {w}.",
    "The stub below only documents {w}; write its implementation.",
    "Replace the ellipsis in `{n}` with working code.",
)
EDITING = (
    "Rename the function to `{new}` and change nothing else.",
    "Our style guide wants `{new}` as the name of this helper. Edit the code.",
    "Give `{n}`, which computes {w}, the clearer name `{new}`.",
    "Edit: `{n}` becomes `{new}`; the behaviour stays {w}.",
)
OPTIMIZATION = (
    "Make this faster and shorter with a comprehension.",
    "Replace the explicit loop for {w} by one expression.",
    "Rewrite `{n}` without the accumulator variable.",
    "Speed up the code, which builds {w} step by step.",
    "Refactor: the loop in `{n}` can be a single return statement giving {w}.",
)
EXPLANATION = (
    "Explain in one sentence what this Python function returns.",
    "What does `{n}` do?",
    "Describe the purpose of the code below to a beginner.",
    "Summarize the behaviour of `{n}` for its documentation.",
    "Read this snippet and say which result it gives.",
    "A colleague asks about `{n}`: what is its return value?",
)
LANGUAGE_CLASSIFICATION = (
    "Which programming language is this? Answer with its name only.",
    "Name the language of the snippet that computes {w}.",
    "Classify the source code below by language.",
    "Identify the language in which `{n}` is written.",
)
COMPLEXITY_CLASSIFICATION = (
    "State the time complexity of `{n}` in Big-O notation.",
    "How does the running time of this code grow with the size of its argument?",
    "Constant, linear or quadratic: how expensive is it to get {w} this way?",
)
TESTING = (
    "Write a pytest function with asserts that check this code.",
    "Add three unit tests, as plain asserts in `test_{n}`, for code that gives {w}.",
    "Test the code below on two ordinary arguments and an empty one, pytest style.",
    "Which asserts would catch a regression in {w}? Put them into a test function.",
)
# {t} table, {g} grouping column, {n} aggregated column, {s} aggregate, {w} condition.
SQL = (
    "Write a SQL query for the {s} {n} per {g} in table `{t}`, {w}.",
    "From `{t}`, show each {g} with its {s} {n}, {w}.",
    "Which SQL statement lists the {s} {n} of every {g}? Take rows of `{t}` {w}.",
    "Group `{t}` by {g} and report the {s} {n}, {w}. Use SQL.",
    "Our dashboard needs one row for every {g}: its {s} {n}, {w}. Query `{t}`.",
)
# Instructions and command. {x} file extension, {w} word, {n} small number, {l} large number.
SHELL = (
    (("Print the number of lines of every .{x} file here, using the shell.",
      "Bash: count lines in all *.{x} files of this folder."),
     "wc -l -- *.{x}"),
    (("Which shell command shows the lines with {w} in {x}.txt, numbered?",
      "Search {x}.txt for {w} from the terminal and show line numbers."),
     "grep -n '{w}' {x}.txt"),
    (("Add up column {n} of the comma-separated file {x}.csv with awk.",
      "A one-liner, please: the total of CSV field {n} in {x}.csv."),
     "awk -F, '{{ total += ${n} }} END {{ print total }}' {x}.csv"),
    (("Show the {l} most frequent lines of {x}.txt with their counts.",
      "Rank the repeated lines in {x}.txt; only the top {l} matter."),
     "sort {x}.txt | uniq -c | sort -rn | head -n {l}"),
    (("Find every .{x} file below this folder that changed in the last {n} days.",
      "List *.{x} files, recursively, modified within {n} days (bash)."),
     "find . -name '*.{x}' -mtime -{n}"),
    (("Keep the rows of {x}.csv whose field {n} exceeds {l}, with awk.",
      "Filter {x}.csv on the command line: column {n} must be above {l}."),
     "awk -F, '${n} > {l}' {x}.csv"),
)  # fmt: skip
# {a} and {b} smallest and largest length, {k} kind of character, {s} prefix.
REGEX = (
    "Write a regular expression for {a} to {b} {k}{s}, matching the whole string.",
    "Which regex accepts exactly {a} up to {b} {k}{s} and nothing more?",
    "Validate a code with a pattern: between {a} and {b} {k}{s}.",
)
CHARACTER_CLASSES = (
    ("digits", "[0-9]"), ("capital letters", "[A-Z]"), ("small letters", "[a-z]"),
    ("hexadecimal digits", "[0-9a-fA-F]"), ("lower-case vowels", "[aeiou]"),
    ("binary digits", "[01]"),
)  # fmt: skip
# {c} class, {l} capacity, {n} method, {w} what it returns.
DATA_STRUCTURE = (
    "Write a Python class `{c}` that remembers the last {l} added values and whose method "
    "`{n}` returns {w}.",
    "Design a bounded container, `{c}`, for at most {l} recent numbers; `add` stores one, "
    "`{n}` tells {w}.",
    "Model a `{c}` in Python: old entries vanish beyond {l}, and `{n}()` answers with {w}.",
)

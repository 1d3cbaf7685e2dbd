"""Vocabulary of the embedded teacher: terms with their phrases and their code.

A composition applies a reduction to transformed selected values, e.g. the sum of the squares of
the even numbers. Conditions and transformations have the same result in every language of the
tables (`v % 2 != 0` instead of `v % 2 == 1`, which differs for negative numbers).

The phrases are data: changing one changes the datasets that the embedded teacher generates.
"""

from __future__ import annotations

from dataclasses import dataclass

from code_alpaca.core import languages

NUMBERS = tuple(range(2, 21))


@dataclass(frozen=True, slots=True)
class Term:
    """A term of a composition: its part of the function name, its phrases, its code over `v`."""

    name: str
    phrases: tuple[str, ...]
    code: str


# {noun} is one of NOUNS, {n} one of NUMBERS.
SELECTIONS = (
    Term("even", ("even {noun}", "{noun} divisible by two", "{noun} that are even"), "v % 2 == 0"),
    Term("odd", ("odd {noun}", "{noun} that are odd", "{noun} not divisible by two"), "v % 2 != 0"),
    Term("positive", ("positive {noun}", "{noun} greater than zero"), "v > 0"),
    Term("negative", ("negative {noun}", "{noun} smaller than zero"), "v < 0"),
    Term("nonzero", ("non-zero {noun}", "{noun} different from zero"), "v != 0"),
    Term("above_{n}", ("{noun} greater than {n}", "{noun} above {n}", "{noun} over {n}"), "v > {n}"),
    Term("below_{n}", ("{noun} less than {n}", "{noun} below {n}", "{noun} under {n}"), "v < {n}"),
    Term("multiples_of_{n}", ("multiples of {n}", "{noun} that {n} divides", "{noun} divisible by {n}"), "v % {n} == 0"),
)  # fmt: skip
TRANSFORMATIONS = (
    Term("", ("",), "v"),
    Term("squares", ("squares of the", "squared values of the"), "v * v"),
    Term("cubes", ("cubes of the", "third powers of the"), "v * v * v"),
    Term("doubles", ("doubles of the", "doubled values of the"), "v * 2"),
    Term("triples", ("triples of the", "tripled values of the"), "v * 3"),
    Term("negations", ("negations of the", "sign-flipped values of the"), "-v"),
    Term("plus_{m}", ("values, raised by {m}, of the", "values plus {m} of the"), "v + {m}"),
    Term("minus_{m}", ("values, lowered by {m}, of the", "values minus {m} of the"), "v - {m}"),
)
# {e} is the transformed value, {c} the selection's condition.
REDUCTIONS = (
    Term("sum", ("the sum of", "the total of", "the result of adding up"), "sum({e} for v in values if {c})"),
    Term("list", ("a list of", "a new list with"), "[{e} for v in values if {c}]"),
    Term("sorted", ("the ascending list of", "a sorted list of"), "sorted({e} for v in values if {c})"),
    Term("largest", ("the largest of", "the maximum of"), "max(({e} for v in values if {c}), default=0)"),
    Term("smallest", ("the smallest of", "the minimum of"), "min(({e} for v in values if {c}), default=0)"),
    Term("first", ("the first of", "the earliest of"), "next(({e} for v in values if {c}), 0)"),
    Term("last", ("the last of", "the final one of"), "next(({e} for v in reversed(values) if {c}), 0)"),
    Term("distinct", ("how many different values are among", "the number of distinct"), "len({{{e} for v in values if {c}}})"),
    Term("any_over_50", ("whether any value over 50 is among", "True if something exceeds 50 among"), "any({e} > 50 for v in values if {c})"),
)  # fmt: skip
EMPTY_CASE_NOTES = {
    "sum": "An empty selection gives 0.", "largest": "Give 0 if nothing qualifies.",
    "smallest": "Give 0 if nothing qualifies.", "first": "Return 0 when there is none.",
    "last": "Return 0 when there is none.", "list": "Keep the original order.",
    "sorted": "Duplicates stay.", "distinct": "Nothing qualifying means 0.",
    "any_over_50": "Answer with a Boolean.",
}  # fmt: skip

CHARACTER_SELECTIONS = (
    Term("vowels", ("vowels", "letters a, e, i, o or u in either case"), 'v.lower() in "aeiou"'),
    Term("digits", ("digits", "decimal digits"), "v.isdigit()"),
    Term("letters", ("letters", "alphabetic characters"), "v.isalpha()"),
    Term("uppercase", ("capital letters", "upper-case letters"), "v.isupper()"),
    Term("lowercase", ("small letters", "lower-case letters"), "v.islower()"),
    Term("non_spaces", ("characters other than spaces", "non-space characters"), 'v != " "'),
    Term("punctuation", ("commas and full stops", "dots and commas"), 'v in ".,"'),
)
WORD_SELECTIONS = (
    Term("longer_than_{k}", ("words longer than {k} characters", "words of more than {k} letters"), "len(v) > {k}"),
    Term("shorter_than_{k}", ("words shorter than {k} characters", "words under {k} letters"), "len(v) < {k}"),
    Term("starting_with_{l}", ('words that start with "{l}"', 'words beginning with "{l}"'), 'v.startswith("{l}")'),
    Term("ending_with_{l}", ('words that end with "{l}"', 'words whose last letter is "{l}"'), 'v.endswith("{l}")'),
    Term("containing_{l}", ('words that contain "{l}"', 'words with "{l}" in them'), '"{l}" in v'),
    Term("capitalized", ("words with a capital first letter", "capitalized words"), "v[:1].isupper()"),
)  # fmt: skip
TEXT_TRANSFORMATIONS = (
    Term("", ("",), "v"),
    Term("upper", ("upper-case forms of the", "shouted forms of the"), "v.upper()"),
    Term("lower", ("lower-case forms of the", "uncapitalized forms of the"), "v.lower()"),
    Term("twice", ("twofold repetitions of the", "doubled copies of the"), "v * 2"),
)
WORD_TRANSFORMATIONS = (
    *TEXT_TRANSFORMATIONS,
    Term("reversed", ("mirror images of the", "backwards spellings of the"), "v[::-1]"),
)
TEXT_REDUCTIONS = (
    Term("count", ("the number of", "the count of"), "sum(1 for v in {source} if {c})"),
    Term("join", ("one string made of", "the concatenation of"), '"".join({e} for v in {source} if {c})'),
    Term("list", ("a list of", "a new list with"), "[{e} for v in {source} if {c}]"),
    Term("dashed", ('a "-"-separated string of', "the hyphen-joined sequence of"), '"-".join({e} for v in {source} if {c})'),
    Term("set", ("the set of", "a set holding"), "{{{e} for v in {source} if {c}}}"),
)  # fmt: skip

# Reductions, selections and transformations by the kind of value.
TERMS = {
    "numbers": (REDUCTIONS, SELECTIONS, TRANSFORMATIONS),
    "characters": (TEXT_REDUCTIONS, CHARACTER_SELECTIONS, TEXT_TRANSFORMATIONS),
    "words": (TEXT_REDUCTIONS, WORD_SELECTIONS, WORD_TRANSFORMATIONS),
}

NOUNS = ("numbers", "integers", "values", "entries", "elements")
CONTEXTS = (
    "", "", "",
    "A thermometer logs whole degrees every hour.",
    "Scores of a quiz arrive as integers.",
    "We keep stock changes of a small shop, returns being below zero.",
    "Inside a game, each round yields points or penalties.",
    "My budget sheet stores income and expenses without cents.",
    "An elevator reports the floors that it passed.",
    "Sensor readings come in batches.",
    "For a homework exercise on comprehensions:",
    "Our billing job needs a helper.",
    "This is part of a data-cleaning script.",
    "Imagine offsets measured from a reference line.",
    "The caller passes votes, up and down.",
    "I am porting a spreadsheet formula.",
    "Goal differences of a league are given.",
    "While refactoring a report generator I need one more building block.",
    "Think of deposits and withdrawals in order of time.",
    "Packet sizes and error codes share one array here.",
    "A step counter syncs its daily deltas.",
    "Keep it to a single expression if you can.",
    "Tides are noted relative to mean sea level.",
    "Someone on the team asked for this during review.",
)  # fmt: skip
TEXT_CONTEXTS = (
    "", "", "",
    "Chat messages pass through this helper.",
    "A crossword tool works on plain sentences.",
    "Product titles arrive as one line of text.",
    "Log lines should be summarized.",
    "I am writing a tiny search engine.",
    "For a typing tutor:",
    "The subtitles of a film need preparing.",
    "User names are checked before they are stored.",
    "An e-book reader collects statistics.",
    "This feeds a word cloud.",
    "Part of a slug generator:",
    "Poems are analysed line by line.",
    "Keep it short and free of imports.",
)  # fmt: skip
# {what} describes the composition, {sig} is the call, {arg} the argument, {lang} the language.
INSTRUCTION_TEMPLATES = (
    "Write a {lang} function `{sig}` that returns {what} in {arg}.",
    "Implement `{sig}` in {lang}. It should give back {what} found in {arg}.",
    "Create {lang} code for `{sig}`: given {arg}, compute {what}.",
    "In {lang}, define `{sig}` so that calling it yields {what} from {arg}.",
    "How would you code `{sig}` in {lang} to obtain {what} out of {arg}?",
    "Please provide a {lang} implementation of `{sig}`, which takes {arg} and produces {what}.",
    "Given {arg}, {what} is wanted. Solve this with a {lang} function called `{sig}`.",
    "I need `{sig}` ({lang}): from {arg}, determine {what}.",
    "Develop a short {lang} routine, `{sig}`, whose result is {what} within {arg}.",
    "Show me {lang} source for `{sig}`; its job is to extract {what} from {arg}.",
    "Using {lang}, build `{sig}`. The answer must be {what}, taken over {arg}.",
    "Design a function in {lang}: name `{sig}`, input {arg}, output {what}.",
)
ARGUMENT_PHRASES = (
    "a list of integers", "the list `values`", "an integer list", "its list argument",
)  # fmt: skip
TEXT_ARGUMENT_PHRASES = ("a string", "the string `text`", "a line of text", "its text argument")
ENDING_PHRASES = (
    "", "", "", "Leave the argument untouched.", "No loops that mutate state, please.",
    "Aim for readability.", "One expression is enough.", "Avoid third-party packages.",
    "Do not print anything.", "It will be called often.",
)  # fmt: skip

# Code in other languages, by reduction. {pc} and {pe} are {c} and {e} with PHP variables.
CODE_TEMPLATES: dict[str, dict[str, str]] = {
    "javascript": {
        "sum": "function {name}(values) {{\n  return values.filter((v) => {c}).map((v) => {e}).reduce((a, b) => a + b, 0);\n}}",
        "list": "function {name}(values) {{\n  return values.filter((v) => {c}).map((v) => {e});\n}}",
        "distinct": "function {name}(values) {{\n  return new Set(values.filter((v) => {c}).map((v) => {e})).size;\n}}",
    },
    "typescript": {
        "sum": "function {name}(values: number[]): number {{\n  return values.filter((v) => {c}).map((v) => {e}).reduce((a, b) => a + b, 0);\n}}",
        "list": "function {name}(values: number[]): number[] {{\n  return values.filter((v) => {c}).map((v) => {e});\n}}",
    },
    "ruby": {
        "sum": "def {name}(values)\n  values.select {{ |v| {c} }}.sum {{ |v| {e} }}\nend",
        "list": "def {name}(values)\n  values.select {{ |v| {c} }}.map {{ |v| {e} }}\nend",
        "sorted": "def {name}(values)\n  values.select {{ |v| {c} }}.map {{ |v| {e} }}.sort\nend",
    },
    "java": {
        "sum": "static long {name}(int[] values) {{\n    return java.util.Arrays.stream(values).asLongStream().filter(v -> {c}).map(v -> {e}).sum();\n}}",
        "list": "static int[] {name}(int[] values) {{\n    return java.util.Arrays.stream(values).filter(v -> {c}).map(v -> {e}).toArray();\n}}",
    },
    "c": {
        "sum": "long {name}(const int *values, int n) {{\n    long total = 0;\n    for (int i = 0; i < n; i++) {{\n        long v = values[i];\n        if ({c}) total += {e};\n    }}\n    return total;\n}}",
    },
    "c++": {
        "sum": "long {name}(const std::vector<int>& values) {{\n    long total = 0;\n    for (long v : values)\n        if ({c}) total += {e};\n    return total;\n}}",
        "list": "std::vector<int> {name}(const std::vector<int>& values) {{\n    std::vector<int> result;\n    for (int v : values)\n        if ({c}) result.push_back({e});\n    return result;\n}}",
    },
    "go": {
        "sum": "func {name}(values []int) int {{\n\ttotal := 0\n\tfor _, v := range values {{\n\t\tif {c} {{\n\t\t\ttotal += {e}\n\t\t}}\n\t}}\n\treturn total\n}}",
        "list": "func {name}(values []int) []int {{\n\tresult := []int{{}}\n\tfor _, v := range values {{\n\t\tif {c} {{\n\t\t\tresult = append(result, {e})\n\t\t}}\n\t}}\n\treturn result\n}}",
    },
    "rust": {
        "sum": "fn {name}(values: &[i64]) -> i64 {{\n    values.iter().copied().filter(|&v| {c}).map(|v| {e}).sum()\n}}",
        "list": "fn {name}(values: &[i64]) -> Vec<i64> {{\n    values.iter().copied().filter(|&v| {c}).map(|v| {e}).collect()\n}}",
    },
    "kotlin": {
        "sum": "fun {name}(values: List<Int>): Int =\n    values.filter {{ v -> {c} }}.sumOf {{ v -> {e} }}",
        "list": "fun {name}(values: List<Int>): List<Int> =\n    values.filter {{ v -> {c} }}.map {{ v -> {e} }}",
    },
    "php": {
        "sum": "function {name}(array $values): int {{\n    return array_sum(array_map(fn($v) => {pe}, array_filter($values, fn($v) => {pc})));\n}}",
    },
}  # fmt: skip
LANGUAGE_NAMES = {language.name: language.display for language in languages.TABLE}

SQL_TABLES = {
    "orders": ("amount", "customer", "status", ("paid", "open", "cancelled")),
    "employees": ("salary", "department", "city", ("Oslo", "Lima", "Kyoto")),
    "readings": ("temperature", "station", "quality", ("good", "poor", "suspect")),
    "books": ("pages", "author", "genre", ("poetry", "crime", "history")),
    "flights": ("delay", "airline", "origin", ("FRA", "JFK", "NRT")),
    "songs": ("seconds", "artist", "album", ("Blue", "Live", "First")),
    "trees": ("height", "species", "park", ("North", "River", "Hill")),
    "tickets": ("minutes", "agent", "priority", ("low", "high", "urgent")),
}
SQL_AGGREGATES = {
    "SUM": ("total", "sum"), "AVG": ("average", "mean"), "MAX": ("highest", "maximum"),
    "MIN": ("lowest", "minimum"), "COUNT": ("row count for", "count of"),
}  # fmt: skip

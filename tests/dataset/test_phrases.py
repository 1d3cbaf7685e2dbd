"""The root verb of an instruction and its direct object."""

from __future__ import annotations

import pytest

from code_alpaca.dataset.phrases import verb_and_object

PAIRS = {
    "Write a Python function to merge two dictionaries.": ("write", "function"),
    "Given an array, find the largest sum of three neighbours.": ("find", "sum"),
    "Can you rewrite this query so that it uses an index?": ("rewrite", "query"),
    "In Go, please write a small HTTP server that prints hello": ("write", "server"),
    "Using two stacks, implement a queue.": ("implement", "queue"),
    "Using a regular expression extract the dates of a log file": ("extract", "date"),
    "You are given a list of words and you need to count the vowels in it.": ("count", "vowel"),
    "You are given two strings. Compare them. Then stop.": None,
    "Suppose there are n doors. Print the open ones.": ("print", "one"),
    "How would you reverse a linked list?": ("reverse", "list"),
    "How to parse dates in Rust?": ("parse", "date"),
    "I want you to optimise the following loop": ("optimise", "loop"),
    "Your task is to debug this C++ class.": ("debug", "class"),
    "Find and replace all tabs in the file": ("find", "tab"),
    "Give me an example of a closure": ("give", "example"),
    "Create a for loop that prints the even numbers": ("create", "loop"),
    "Construct an if-else statement": ("construct", "statement"),
    "Compute the maximum and minimum values of a column": ("compute", "value"),
    "Calculate the sum and product of a list": ("calculate", "sum"),
    "Print all of the prime numbers below 100": ("print", "number"),
    "Find the most frequent 5 words in a text": ("find", "word"),
    "Generate a password 12 characters long": ("generate", "password"),
    "Create a 3-dimensional array of zeros": ("create", "array"),
    'Edit the "total" function, it is wrong': ("edit", "function"),
    "Write a function `total(prices)` in Java": ("write", "function"),
    "Rewrite the code below using map": ("rewrite", "code"),
    "Sort a list sorted by mistake": ("sort", "list"),
    "Find the longest substring in a given string": ("find", "substring"),
    "Delete the vertices of the mesh": ("delete", "vertex"),
    "Describe the properties of three classes": ("describe", "property"),
    "List the indices, then stop": ("list", "index"),
    "Explain the analysis of CSS": ("explain", "analysis"),
}
WITHOUT_OBJECT = [
    "",
    "   ",
    "?!",
    "What is the difference between a process and a thread?",
    "Explain how a hash map works.",
    "Explain how to write a loop",
    "Check if two strings are anagrams",
    "Convert from Celsius to Fahrenheit",
    "Why does this code fail?",
    "Is there a way to sort a dictionary by value",
    'Print "hello"',
    "Write",
    "Write and",
    "Given an unsorted array, sort it.",
    "Print " + "a" * 200,
]


@pytest.mark.parametrize(("instruction", "pair"), PAIRS.items())
def test_the_pair_is_found(instruction, pair):
    assert verb_and_object(instruction) == pair


@pytest.mark.parametrize("instruction", WITHOUT_OBJECT)
def test_an_instruction_without_an_object_has_no_pair(instruction):
    assert verb_and_object(instruction) is None


def test_case_and_politeness_do_not_matter():
    pairs = {verb_and_object(f"{word} a FUNCTION") for word in ("Write", "please write", "WRITE")}
    assert pairs == {("write", "function")}


def test_long_noise_is_parsed_in_linear_time():
    for noise in ("' ", "how to ", "a, ", "` ", "and or ", "-a", "\n", "the of ", "a.", "1-"):
        verb_and_object("Write " + noise * 100_000)

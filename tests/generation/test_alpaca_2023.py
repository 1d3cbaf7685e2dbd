"""The original algorithm (2023): its prompt, its parser, and its decisions."""

from __future__ import annotations

import random
import re

import pytest
from rouge_score import rouge_scorer
from support.generation_runs import QUICK, generate_args, read_payloads, read_rows
from support.prompt_contexts import prompt_context

from code_alpaca.cli import main
from code_alpaca.core.schema import Example, SeedTask, load_seed_tasks
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.pipeline import Curator
from code_alpaca.generation.strategies.alpaca_2023 import Alpaca2023, parse_2023
from code_alpaca.teacher.reply_parsing import ParsedReply

BLOCKS = (
    " Reverse a list.\n4. Input:\n<noinput>\n4. Output:\nx[::-1]\n"
    "###\n5. Instruction: Add two numbers.\n5. Input:\n1, 2\n5. Output:\n3\n"
)


def test_the_prompt_shows_three_seed_tasks_and_begins_the_fourth():
    seeds = [SeedTask(f"s{n}", f"Do  the\n thing {n}:", "", f"out {n}") for n in range(3)]
    prompt = Alpaca2023().ask(prompt_context(seed_tasks=seeds))
    assert sorted(prompt.seed_ids) == ["s0", "s1", "s2"]
    assert prompt.text.rstrip().endswith("###\n4. Instruction:")
    assert Alpaca2023().tasks_per_request(prompt, 5) == 17
    assert re.search(r"1\. Instruction: Do the thing \d\n1\. Input:\n<noinput>\n", prompt.text)


def test_the_parser_of_2023_reproduces_its_losses():
    def parsed(text, truncated=False):
        reply = ParsedReply(text, truncated=truncated)
        return [(row.instruction, row.reason) for row in parse_2023(reply)]

    assert parsed(BLOCKS) == [("Reverse a list.", ""), ("Add two numbers.", "")]
    assert parsed(BLOCKS, truncated=True)[1][1] == "truncated"
    separator = BLOCKS.replace("x[::-1]", "x[::-1]\n### a comment")
    assert [reason for _, reason in parsed(separator)] == ["", "malformed", "malformed"]
    skipped = BLOCKS.replace("5.", "6.")
    assert [reason for _, reason in parsed(skipped)] == ["", "malformed"]


@pytest.mark.parametrize(
    ("more", "stop"), [([], None), (["--alpaca_2023_defects"], ["\n20", "20.", "20."])]
)
def test_the_strategy_runs_with_and_without_its_defects(tmp_path, teacher_url, more, stop):
    args = [*QUICK, "--strategy", "alpaca_2023", "--teacher_api", "completions", *more]
    assert main(generate_args(tmp_path, *args, url=teacher_url, rows=20)) == 0
    assert read_payloads(tmp_path)[0].get("stop") == stop
    assert {row["strategy"] for row in read_rows(tmp_path)} == {"alpaca_2023"}


def test_the_old_spellings_of_its_keys_are_accepted_with_one_warning_each(tmp_path, capsys):
    old = ["--strategy", "seed_compat", "--seed_compat_defects"]  # old names
    assert main(generate_args(tmp_path / "r", *QUICK, *old, "--dry_run")) == 0
    output = capsys.readouterr().out
    warnings = [line for line in output.splitlines() if line.startswith("warning")]
    assert len(warnings) == 2 and all("alpaca_2023" in line for line in warnings)


def test_its_decisions_equal_a_direct_use_of_rouge_score():
    """The same rows are accepted as by the rules of 2023 and rouge_score, over similar tasks."""
    rng = random.Random(5)
    verbs = ["Write", "Create", "Plot", "Write a program that prints", "Find", "Explain how"]
    things = ["the sum of two numbers", "a map of users", "an image", "the largest prime", "a file"]
    ends = ["", " in C++", " in C#", " as fast as possible", " using x != y", ", please"]
    rows = [
        Example(f"{rng.choice(verbs)} {rng.choice(things)}{rng.choice(ends)}.", "", "x")
        for _ in range(300)
    ]
    seed_tasks = load_seed_tasks()
    overrides = Alpaca2023(defects=True).curation_overrides
    curator = Curator(
        filters=overrides["filters"],
        contamination=ContaminationDetector([]),
        novelty=NoveltyPool(overrides["novelty"]),
    )
    curator.add_to_pool(seed_tasks)
    accepted = [not curator.check_pool(curator.check_row(row)).reason for row in rows]
    assert accepted == decide_as_in_2023([task.instruction for task in seed_tasks], rows)
    assert 5 < sum(accepted) < 200


def decide_as_in_2023(seeds: list[str], rows: list[Example]) -> list[bool]:
    """Apply the rules of 2023 directly, with rouge_score."""
    words = ["image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map",
             "maps", "draw", "plot", "go to", "video", "audio", "music", "flowchart",
             "diagram"]  # fmt: skip
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    pool, decisions = list(seeds), []
    for row in rows:
        text = row.instruction
        accepted = 3 < len(text.split()) <= 150
        accepted &= not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words)
        accepted &= not text.startswith("Write a program") and text[0].isalnum()
        accepted = accepted and all(
            scorer.score(text, other)["rougeL"].fmeasure <= 0.7 for other in pool
        )
        if accepted:
            pool.append(text)
        decisions.append(accepted)
    return decisions

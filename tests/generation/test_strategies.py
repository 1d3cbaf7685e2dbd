"""Every strategy: a prompt that is a pure function of its view, and rows that name their origin."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections import Counter

import pytest
from code_alpaca.generation.strategies.view import View
from rouge_score import rouge_scorer

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.schema import Example, SeedTask, count_fulfilled, load_seed_tasks
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.pipeline import Curator
from code_alpaca.generation.quotas import Quotas
from code_alpaca.generation.strategies import STRATEGIES, oss_instruct, seed_compat
from code_alpaca.teacher.reply_parsing import ParsedReply

SEEDS = load_seed_tasks()
POOL = [
    Example(f"Write pool task {n} about <tags> & 'quotes'.", "", f"answer {n}", id=f"pool{n}")
    for n in range(9)
]
SNIPPETS = ["\n".join(f"line_{n} = {n}" for n in range(60)), "a\nb\nc\nd\ne"]


def view(number=0, **changes):
    fields = {
        "rng": random.Random(number), "seed_tasks": SEEDS, "pool": POOL, "count": 5,
        "seeds_per_request": 6, "pool_per_request": 2, "snippets": SNIPPETS,
    }  # fmt: skip
    return View(**{**fields, **changes})


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_prompt_is_a_function_of_its_view_and_varies(name):
    asked = [STRATEGIES[name].ask(view(number)) for number in range(20)]
    assert asked == [STRATEGIES[name].ask(view(number)) for number in range(20)]
    assert len({each.prompt for each in asked}) > 10
    known = {task.id for task in SEEDS} | {row.id for row in POOL}
    assert all(set(each.seed_ids) <= known and each.seed_ids for each in asked)


def test_self_instruct_shows_six_seeds_and_two_rows_as_they_are():
    asked = STRATEGIES["self_instruct"].ask(view())
    assert Counter(name.startswith("pool") for name in asked.seed_ids) == {False: 6, True: 2}
    shown = [json.loads(line) for line in asked.prompt.split("\n") if line.startswith('{"instr')]
    assert sum("<tags> & 'quotes'" in task["instruction"] for task in shown) == 2


def test_evol_instruct_grows_out_of_an_accepted_row():
    asked = STRATEGIES["evol_instruct"].ask(view())
    assert asked.seed_ids[0].startswith("pool")
    assert STRATEGIES["evol_instruct"].ask(view(pool=[])).seed_ids[0].startswith("seed")


def test_wishes_reach_the_prompt():
    wish = {"language": "rust", "task_type": "debugging", "difficulty": "hard"}
    for name in ("self_instruct", "evol_instruct", "oss_instruct"):
        prompt = STRATEGIES[name].ask(view(wish=wish)).prompt
        assert "about rust" in prompt and "debugging" in prompt and "is hard for" in prompt
        assert "This time" not in STRATEGIES[name].ask(view()).prompt


# -- oss_instruct ------------------------------------------------------------------------------


def test_snippets_of_a_repository_leave_secrets_and_strangers_out(tmp_path):
    code = "\n".join(f"x{n} = {n}" for n in range(8)) + "\n"
    (tmp_path / "src").mkdir()
    (tmp_path / "src/good.py").write_text(code + "# good\n")
    (tmp_path / "key.py").write_text(code + 'API_KEY = "sk-abcdefghijklmnop1234"\n')
    (tmp_path / "password.go").write_text(code + 'password := "correct-horse-9"\n')
    (tmp_path / ".hidden.py").write_text(code)
    (tmp_path / "short.py").write_text("x = 1\n")
    (tmp_path / "big.js").write_text("x;\n" * 100_000)
    (tmp_path / "binary.c").write_bytes(b"\xff\xfe\x00" * 50)
    (tmp_path / "notes.txt").write_text(code)
    assert oss_instruct.load_snippets(str(tmp_path), "content") == [code + "# good"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "src", "key.py"], check=True)
    (tmp_path / "src/untracked.py").write_text(code)
    assert oss_instruct.load_snippets(str(tmp_path), "content") == [code + "# good"]


def test_snippets_of_a_dataset_file(tmp_path):
    path = tmp_path / "code.jsonl"
    path.write_text("".join(json.dumps({"code": text}) + "\n" for text in [*SNIPPETS, "x"]))
    assert oss_instruct.load_snippets(str(path), "code") == SNIPPETS
    with pytest.raises(InputError, match="no column 'content'"):
        oss_instruct.load_snippets(str(path), "content")
    with pytest.raises(InputError, match="no code found there with at least 5 lines"):
        oss_instruct.load_snippets(str(tmp_path), "content")


def test_snippets_are_short_dense_and_cheap(tmp_path):
    blank = "\n\n   \n\n".join(f"    x{n} = {n}" for n in range(9))
    wide = "\n".join(f"y{n} = '{'y' * 280}'" for n in range(60))
    (tmp_path / "blank.py").write_text(blank)
    (tmp_path / "wide.py").write_text(wide)
    (tmp_path / "minified.js").write_text("a;\n" * 9 + "b" * 301)
    texts = oss_instruct.load_snippets(str(tmp_path), "content")
    assert texts == [blank.replace("\n\n   \n\n", "\n\n"), wide]
    prompts = [oss_instruct.ask(view(n, snippets=[wide])).prompt for n in range(20)]
    spare = len(oss_instruct.ask(view(snippets=["x\n" * 9])).prompt)
    assert max(map(len, prompts)) < spare + 2 * oss_instruct.MOST


def test_a_machine_without_git_reads_every_file(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text(SNIPPETS[0])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert oss_instruct.load_snippets(str(tmp_path), "content") == [SNIPPETS[0]]


# -- quotas ------------------------------------------------------------------------------------


def steer(shares, yields, requests=400, lookahead=8):
    """Rows by label, where a request for a label brings `yields[label]` rows."""
    steered, got = Quotas({"language": shares}, lookahead), Counter()
    pending: list[str] = []
    for number in range(requests):
        pending.append(steered.wish(number)["language"])
        if number >= lookahead - 1:
            label = pending[number - lookahead + 1]
            got[label] += yields[label]
            steered.decided([label] * yields[label])
    return got


def test_quotas_bring_the_shares_even_where_one_label_yields_less():
    got = steer({"python": 2, "rust": 1, "go": 1}, {"python": 4, "rust": 1, "go": 4})
    total = got.total()
    assert got["python"] / total == pytest.approx(0.5, abs=0.04)
    assert got["rust"] / total == pytest.approx(0.25, abs=0.04)


def test_a_label_that_brings_nothing_does_not_eat_the_run():
    got = steer({"python": 1, "cobol": 1}, {"python": 5, "cobol": 0})
    assert got["python"] >= 5 * 400 * 0.05


def test_quotas_go_on_after_a_restart_as_if_there_was_none():
    shares = {"language": {"python": 2, "rust": 1}, "difficulty": {"easy": 1, "hard": 3}}
    straight = Quotas(shares, 3)
    wishes = []
    for number in range(30):
        wishes.append(straight.wish(number))
        if number >= 2:
            straight.decided(["rust"] * (number % 4))
    resumed = Quotas(shares, 3)
    for number in range(20):
        resumed.restore(wishes[number], ["rust"] * ((number + 2) % 4))
    again = []
    for number in range(20, 30):
        again.append(resumed.wish(number))
        if number >= 22:
            resumed.decided(["rust"] * (number % 4))
    assert again == wishes[20:]


def test_a_row_in_another_language_than_asked_is_not_counted():
    said = ["Rust", "python", "", "rust"]
    assert count_fulfilled("language", "rust", said) == 3
    assert count_fulfilled("difficulty", "hard", said) == 4


@pytest.mark.parametrize(
    ("shares", "said"),
    [({"mood": {"good": 1}}, "no dimension 'mood'"), ({"language": {"go": 0}}, "weights above 0")],
)
def test_bad_quotas(shares, said):
    with pytest.raises(InputError, match=said):
        Quotas(shares, 8)


def test_a_mix_with_quotas_runs_and_the_report_tells_asked_and_got(tmp_path, capsys):
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text(SNIPPETS[0])
    config = tmp_path / "c.yaml"
    config.write_text(
        "strategy: {self_instruct: 2, evol_instruct: 1, oss_instruct: 1}\n"
        "quotas: {language: {python: 3, go: 1}, difficulty: {easy: 1, hard: 1}}\n"
    )
    words = ["generate", "--config", str(config), "--snippets", str(code), "--verify", "false",
             "--run_dir", str(tmp_path / "r"), "--teacher_base_url", "offline",
             "--lookahead", "8"]  # fmt: skip
    assert main([*words, "--num_examples", "40"]) == 0
    assert main([*words, "--num_examples", "80"]) == 0
    with Ledger(tmp_path / "r/ledger.sqlite", write=False) as ledger:
        rows = list(ledger.accepted())
    assert set(Counter(row.strategy for row in rows)) == {
        "self_instruct", "evol_instruct", "oss_instruct",
    }  # fmt: skip
    assert len({row.prompt_version for row in rows}) == 3
    capsys.readouterr()
    assert main(["report", "--run_dir", str(tmp_path / "r")]) == 0
    facts = json.loads((tmp_path / "r/report.json").read_text())
    asked = facts["asked_and_got"]
    # The embedded teacher writes no Go: it is asked for more and more, and none is claimed.
    languages = Counter(row.language for row in rows)
    assert 0 < asked["language: python"]["got"] <= languages["python"]
    assert asked["language: go"]["asked"] > 0
    assert asked["language: go"]["got"] <= languages["go"] + languages[""]
    assert sum(asked[f"difficulty: {x}"]["got"] for x in ("easy", "hard")) == len(rows)


# -- seed_compat ---------------------------------------------------------------------------------

BLOCKS = (
    " Reverse a list.\n4. Input:\n<noinput>\n4. Output:\nx[::-1]\n"
    "###\n5. Instruction: Add two numbers.\n5. Input:\n1, 2\n5. Output:\n3\n"
)


def test_the_2023_prompt_shows_three_seeds_and_begins_the_fourth():
    seeds = [SeedTask(f"s{n}", f"Do  the\n thing {n}:", "", f"out {n}") for n in range(3)]
    asked = seed_compat.ask(view(seed_tasks=seeds))
    assert sorted(asked.seed_ids) == ["s0", "s1", "s2"]
    assert asked.prompt.rstrip().endswith("###\n4. Instruction:")
    assert seed_compat.wanted(asked) == 17
    assert re.search(r"1\. Instruction: Do the thing \d\n1\. Input:\n<noinput>\n", asked.prompt)


def test_the_2023_parser_with_its_losses():
    def parsed(text, cut=False):
        return [
            (c.instruction, c.reason)
            for c in seed_compat.parse_2023(ParsedReply(text, truncated=cut))
        ]

    assert parsed(BLOCKS) == [("Reverse a list.", ""), ("Add two numbers.", "")]
    assert parsed(BLOCKS, cut=True)[1][1] == "truncated"
    mark = BLOCKS.replace("x[::-1]", "x[::-1]\n### a comment")
    assert [reason for _, reason in parsed(mark)] == ["", "malformed", "malformed"]
    skipped = BLOCKS.replace("5.", "6.")
    assert [reason for _, reason in parsed(skipped)] == ["", "malformed"]


def test_seed_compat_runs_with_and_without_its_defects(tmp_path):
    words = ["generate", "--strategy", "seed_compat", "--teacher_base_url", "offline",
             "--teacher_api", "completions", "--num_examples", "20", "--verify", "false",
             "--decontaminate", "none", "--run_dir"]  # fmt: skip
    assert main([*words, str(tmp_path / "mended")]) == 0
    assert main([*words, str(tmp_path / "defects"), "--seed_compat_defects"]) == 0
    stops = {}
    for name in ("mended", "defects"):
        with Ledger(tmp_path / name / "ledger.sqlite", write=False) as ledger:
            (payload,) = ledger._db.execute("SELECT payload FROM requests LIMIT 1").fetchone()
            stops[name] = json.loads(payload).get("stop")
            assert all(e.strategy == "seed_compat" for e in ledger.accepted())
    assert stops == {"mended": None, "defects": ["\n20", "20.", "20."]}


def test_2023_decisions_equal_a_direct_use_of_rouge_score():
    """The same rows kept as by the 2023 filters and rouge_score itself, over look-alike tasks."""
    rng = random.Random(5)
    verbs = ["Write", "Create", "Plot", "Write a program that prints", "Find", "Explain how"]
    things = ["the sum of two numbers", "a map of users", "an image", "the largest prime", "a file"]
    ends = ["", " in C++", " in C#", " as fast as possible", " using x != y", ", please"]
    rows = [
        Example(f"{rng.choice(verbs)} {rng.choice(things)}{rng.choice(ends)}.", "", "x")
        for _ in range(300)
    ]
    curator = Curator(
        filters=["alpaca_2023"],
        contamination=ContaminationDetector([]),
        novelty=NoveltyPool("rouge_l"),
    )
    curator.add_to_pool(SEEDS)
    ours = [not curator.check_pool(curator.check_row(row)).reason for row in rows]
    assert ours == direct_2023([task.instruction for task in SEEDS], rows)
    assert 5 < sum(ours) < 200


def direct_2023(seeds: list[str], rows: list[Example]) -> list[bool]:
    """The 2023 rules written out over rouge_score."""
    words = ["image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map",
             "maps", "draw", "plot", "go to", "video", "audio", "music", "flowchart",
             "diagram"]  # fmt: skip
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    kept, decisions = list(seeds), []
    for row in rows:
        text = row.instruction
        fine = 3 < len(text.split()) <= 150
        fine = fine and not any(re.search(rf"\b{w}\b", text, re.IGNORECASE) for w in words)
        fine = fine and not text.startswith("Write a program") and text[0].isalnum()
        fine = fine and max(scorer.score(text, old)["rougeL"].fmeasure for old in kept) <= 0.7
        if fine:
            kept.append(text)
        decisions.append(fine)
    return decisions

"""A strategy: its prompt is a pure function of its context, and its rows name it."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from support.generation_runs import QUICK, generate_args, read_rows
from support.prompt_contexts import POOL, prompt_context

from code_alpaca.cli import main
from code_alpaca.core.schema import SeedTask, load_seed_tasks
from code_alpaca.generation.strategies import STRATEGIES
from code_alpaca.generation.strategies.evol_instruct import EvolInstruct
from code_alpaca.generation.strategies.mix import parse_mix
from code_alpaca.generation.strategies.oss_instruct import MAX_CHARACTERS, OssInstruct
from code_alpaca.generation.strategies.self_instruct import SelfInstruct
from code_alpaca.generation.strategies.topics import Topics

SNIPPETS = ["\n".join(f"line_{n} = {n}" for n in range(60)), "a\nb\nc\nd\ne"]


def create(name):
    return OssInstruct(SNIPPETS) if name == "oss_instruct" else STRATEGIES[name]()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_prompt_is_a_function_of_its_context_and_varies(name):
    strategy = create(name)
    declared = strategy.templates
    prompts = [strategy.ask(prompt_context(number, declared=declared)) for number in range(20)]
    again = [strategy.ask(prompt_context(number, declared=declared)) for number in range(20)]
    assert prompts == again
    assert len({prompt.text for prompt in prompts}) > 10
    ids = {task.id for task in load_seed_tasks()} | {row.id for row in POOL}
    assert all(set(prompt.seed_ids) <= ids and prompt.seed_ids for prompt in prompts)


def test_self_instruct_shows_six_seed_tasks_and_two_rows_unescaped():
    prompt = SelfInstruct().ask(prompt_context())
    assert Counter(name.startswith("pool") for name in prompt.seed_ids) == {False: 6, True: 2}
    lines = [line for line in prompt.text.split("\n") if line.startswith('{"instr')]
    tasks = [json.loads(line) for line in lines]
    assert sum("<tags> & 'quotes'" in task["instruction"] for task in tasks) == 2


def test_evol_instruct_evolves_an_accepted_row_or_else_a_seed_task():
    assert EvolInstruct().ask(prompt_context()).seed_ids[0].startswith("pool")
    assert EvolInstruct().ask(prompt_context(pool=[])).seed_ids[0].startswith("seed")


def test_oss_instruct_limits_the_length_of_a_fragment():
    wide = "\n".join(f"y{n} = '{'y' * 280}'" for n in range(60))
    strategy = OssInstruct([wide])
    lengths = [len(strategy.ask(prompt_context(number)).text) for number in range(20)]
    minimum = len(OssInstruct(["x\n" * 9]).ask(prompt_context()).text)
    assert max(lengths) < minimum + 2 * MAX_CHARACTERS


def ask_topics(number=0, **changes):
    return Topics().ask(prompt_context(number, declared=Topics.templates, **changes))


def test_topics_shows_a_pattern_and_one_more_task_of_its_form():
    tasks = {task.id: task for task in load_seed_tasks()}
    requests_for_tests = set()
    for number in range(40):
        prompt = ask_topics(number)
        pattern, *others = (tasks[seed_id] for seed_id in prompt.seed_ids)
        assert len(others) <= 1
        for other in others:
            assert (other.task_type, not other.input) == (pattern.task_type, not pattern.input)
        asserts = "three short assert statements" in prompt.text
        assert asserts == bool(pattern.tests)
        requests_for_tests.add(asserts)
        assert f"({pattern.task_type.replace('_', ' ')}, {pattern.language})" in prompt.text
        assert any(f"another subject: {topic}." in prompt.text for topic in Topics.phrases["topic"])
    assert requests_for_tests == {True, False}


def test_topics_prefers_a_pattern_with_the_labels_of_quotas():
    tasks = {task.id: task for task in load_seed_tasks()}
    labels = {"language": "python", "task_type": "debugging", "difficulty": "hard"}
    for number in range(20):
        prompt = ask_topics(number, labels=labels)
        pattern = tasks[prompt.seed_ids[0]]
        assert (pattern.language, pattern.task_type) == ("python", "debugging")
    assert "(debugging, python)" in prompt.text and "is hard for" in prompt.text
    text = ask_topics(labels={**labels, "language": "elixir"}).text
    assert "(debugging, elixir)" in text and '"tests" is "".' in text, "only Python tests are run"


def test_topics_draws_from_all_seed_tasks_also_if_few_have_a_kind():
    tasks = [SeedTask(f"s{n}", f"Task {n}", "", "x", task_type="sql" * (n > 2)) for n in range(9)]
    first = {ask_topics(number, seed_tasks=tasks).seed_ids[0] for number in range(200)}
    assert first == {task.id for task in tasks}


def test_topics_works_with_seed_tasks_without_a_kind():
    bare = [SeedTask(f"s{n}", f"Task {n}", "", "x") for n in range(3)]
    prompt = ask_topics(seed_tasks=bare, num_tasks=1)
    assert "one new task of the same kind as the first example (code)" in prompt.text


@pytest.mark.parametrize("name", ["self_instruct", "evol_instruct", "oss_instruct"])
def test_the_labels_of_quotas_are_in_the_prompt(name):
    labels = {"language": "rust", "task_type": "debugging", "difficulty": "hard"}
    text = create(name).ask(prompt_context(labels=labels)).text
    assert "about rust" in text and "debugging" in text and "is hard for" in text
    assert "This time" not in create(name).ask(prompt_context()).text


def test_a_mix_draws_in_one_order_whatever_the_order_in_which_it_is_written():
    weights = {"evol_instruct": 1.0, "alpaca_2023": 2.0, "self_instruct": 3.0}
    mix = parse_mix("self_instruct=3, alpaca_2023=2,evol_instruct")
    assert list(mix.items()) == list(weights.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evol", "there is no strategy 'evol'"),
        ("evol_instruct=0", "must be positive"),
        ("evol_instruct=inf", "must be positive and finite"),
    ],
)
def test_a_bad_mix_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_mix(text)


def test_a_mix_with_quotas_runs_and_is_reported(tmp_path, capsys):
    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text(SNIPPETS[0])
    config = tmp_path / "c.yaml"
    config.write_text(
        "strategy: {self_instruct: 2, evol_instruct: 1, oss_instruct: 1, topics: 1}\n"
        "quotas: {language: {python: 3, go: 1}, difficulty: {easy: 1, hard: 1}}\n"
    )
    run_dir = tmp_path / "r"
    more = ["--config", str(config), "--snippets", str(code), "--verify", "false"]
    assert main(generate_args(run_dir, *more, rows=40)) == 0
    assert main(generate_args(run_dir, *more, rows=80)) == 0
    rows = read_rows(run_dir)
    assert {row["strategy"] for row in rows} == {
        *("self_instruct", "evol_instruct", "oss_instruct", "topics")
    }
    assert len({row["prompt_version"] for row in rows}) == 4
    capsys.readouterr()
    assert main(["report", "--run_dir", str(run_dir)]) == 0
    printed = capsys.readouterr().out
    assert "requested vs generated" in printed
    for line in printed.splitlines():
        if line.strip().startswith(("difficulty: ", "strategy: ")):
            assert line.split()[-1] == "-", "nothing measures it"
    report = json.loads((run_dir / "report.json").read_text())["asked_and_got"]
    # The embedded teacher writes no Go: it is requested more often, and no row counts as Go.
    languages = Counter(row["language"] for row in rows)
    assert 0 < report["language: python"]["got"] <= languages["python"]
    assert report["language: go"]["asked"] > 0
    assert report["language: go"]["got"] <= languages["go"] + languages[""]
    assert sum(report[f"difficulty: {label}"]["got"] for label in ("easy", "hard")) == len(rows)


@pytest.mark.parametrize("name", ["self_instruct", "alpaca_2023"])
def test_quotas_are_refused_where_the_prompt_is_numbered_text(tmp_path, capsys, name):
    config = tmp_path / "c.yaml"
    config.write_text("quotas: {language: {python: 1}}\n")
    more = [*QUICK, "--config", str(config), "--strategy", name, "--teacher_api", "completions"]
    assert main(generate_args(tmp_path / "r", *more)) == 2
    assert "has no place for quotas" in capsys.readouterr().err

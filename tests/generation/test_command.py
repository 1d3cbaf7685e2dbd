"""A run depends on its config, seed tasks and replies: not on concurrency, faults or kills."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys

import pytest
from datasets import load_dataset
from support.generation_runs import (
    QUICK,
    count_replies,
    dataset_hash,
    generate_args,
    read_rows,
    server_stats,
)

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.row_checks import MAX_ROW_BYTES
from code_alpaca.dataset.build import build_dataset
from code_alpaca.generation.templates import PromptTemplates
from code_alpaca.teacher import offline

CONTENT_FAULTS = "near_duplicate=0.05&refusal=0.1&wrong_answer=0.05&truncated=0.15&malformed=0.15"
SERVER_FAULTS = "rate_429=0.1&rate_500=0.1&rate_503=0.1&drop=0.1&hang=0.1&retry_after=0.05"
ROWS = 80


@pytest.fixture(scope="module")
def faulty_url():
    """The URL of a teacher whose replies have every fault of content."""
    with offline.start_server(f"offline?{CONTENT_FAULTS}") as url:
        yield url


@pytest.fixture(scope="module")
def straight(tmp_path_factory, faulty_url):
    """A run of 80 rows without an interruption."""
    run_dir = tmp_path_factory.mktemp("straight")
    assert main(generate_args(run_dir, url=faulty_url, rows=ROWS)) == 0
    return run_dir


# -- one dataset ---------------------------------------------------------------------------------


def test_rows_name_their_origin_and_rejections_their_reason(straight):
    rows = read_rows(straight)
    assert len(rows) >= ROWS
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["request_id"] and row["teacher"] == "offline-teacher" for row in rows)
    assert all(0 <= row["nearest_score"] <= 0.85 for row in rows)
    assert {row["verification"] for row in rows} >= {"passed", "not_python"}
    pool = {row["id"] for row in rows}
    assert any(pool & set(row["seed_ids"]) for row in rows), "later prompts show earlier rows"
    with Ledger(straight / "ledger.sqlite", write=False) as ledger:
        reasons = set(ledger.reasons())
    assert {"truncated", "malformed", "run_failed", "refusal"} <= reasons
    assert reasons & {"too_similar", "duplicate_output"}


@pytest.mark.parametrize("concurrency", ["1", "32"])
def test_concurrency_does_not_change_the_rows(straight, faulty_url, tmp_path, concurrency):
    more = ["--max_concurrency", concurrency]
    assert main(generate_args(tmp_path, *more, url=faulty_url, rows=ROWS)) == 0
    assert read_rows(tmp_path, ROWS) == read_rows(straight, ROWS)


def test_server_faults_do_not_change_the_rows(straight, tmp_path):
    few_faults = SERVER_FAULTS.replace("=0.1", "=0.04") + "&jitter=0.05"
    url = f"offline?{CONTENT_FAULTS}&{few_faults}"
    args = generate_args(tmp_path, "--request_timeout_s", "0.5", url=url, rows=ROWS)
    assert main(args) == 0
    assert read_rows(tmp_path, ROWS) == read_rows(straight, ROWS)


def test_an_extended_run_equals_a_longer_one(straight, faulty_url, tmp_path):
    assert main(generate_args(tmp_path, url=faulty_url, rows=30)) == 0
    first = read_rows(tmp_path, 30)
    assert main(generate_args(tmp_path, url=faulty_url, rows=ROWS)) == 0
    assert read_rows(tmp_path, ROWS) == read_rows(straight, ROWS)
    assert read_rows(tmp_path, 30) == first


def kill_runs(run_dir, url, rows, at_replies):
    """Start a run and kill it, once at each number of replies that the teacher has written."""
    command = [sys.executable, "-m", "code_alpaca.cli"]
    command += generate_args(run_dir, "--max_concurrency", "4", url=url, rows=rows)
    for num_replies in at_replies:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            while process.poll() is None and server_stats(url)["answered"] < num_replies:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.02)
            assert process.poll() is None, "the run must be running when it is killed"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def check_kills(straight, killed, rows, num_kills):
    """The teacher outlives the killed runs, so its count shows what was paid for."""
    needed = count_replies(straight)
    at_replies = sorted(random.Random(1).sample(range(8, needed - 4), num_kills))
    with offline.start_server(f"offline?{CONTENT_FAULTS}&latency=0.1&jitter=0.1") as url:
        kill_runs(killed, url, rows, at_replies)
        assert count_replies(killed), "one of the kills must follow the first replies"
        assert main(generate_args(killed, url=url, rows=rows)) == 0
        written = server_stats(url)["answered"]
    assert read_rows(killed, rows) == read_rows(straight, rows)
    assert dataset_hash(killed) == dataset_hash(straight)
    recorded = count_replies(killed)
    assert recorded <= written <= recorded + 4 * num_kills, "at most those in flight at each kill"


def test_a_kill_does_not_change_the_dataset_and_nothing_is_paid_for_twice(straight, tmp_path):
    check_kills(straight, tmp_path / "killed", ROWS, num_kills=1)


@pytest.mark.slow
def test_25_kills_do_not_change_the_dataset_and_nothing_is_paid_for_twice(tmp_path):
    straight = tmp_path / "straight"
    assert main(generate_args(straight, url=f"offline?{CONTENT_FAULTS}", rows=200)) == 0
    check_kills(straight, tmp_path / "killed", 200, num_kills=25)


@pytest.mark.slow
def test_faults_and_concurrency_do_not_change_a_dataset_of_2000_rows(tmp_path):
    """Six faults of content; then the same with five faults of the server."""
    faults = ("near_duplicate", "refusal", "wrong_answer", "empty_output", "truncated", "malformed")
    content = "&".join(f"{fault}=0.05" for fault in faults)

    def run(name, url, *more):
        args = generate_args(tmp_path / name, "--lookahead", "64", *more, url=url, rows=2000)
        assert main(args) == 0
        return dataset_hash(tmp_path / name)

    calm = run("calm", f"offline?{content}", "--max_concurrency", "16")
    for concurrency in ("1", "64"):
        name = f"concurrency {concurrency}"
        assert run(name, f"offline?{content}", "--max_concurrency", concurrency) == calm
    faulty = f"offline?{content}&{SERVER_FAULTS}&jitter=0.05&latency=0.05"
    with offline.start_server(faulty) as url:
        storm = run("storm", url, "--max_concurrency", "64", "--request_timeout_s", "1")
        stats = server_stats(url)
    assert storm == calm
    assert all(stats[name] for name in ("rate_429", "rate_500", "rate_503", "drop", "hang")), stats
    assert count_replies(tmp_path / "storm") == stats["answered"], "every reply was recorded"


def test_a_larger_run_leaves_a_smaller_num_examples_its_own_rejected_rows(
    straight, faulty_url, tmp_path
):
    assert main(generate_args(tmp_path / "small", url=faulty_url, rows=20)) == 0
    assert main(generate_args(tmp_path / "large", url=faulty_url, rows=40)) == 0
    assert main(generate_args(tmp_path / "large", url=faulty_url, rows=20)) == 0
    manifests = [
        json.loads((tmp_path / name / "dataset/manifest.json").read_text())
        for name in ("small", "large")
    ]
    for key in ("counts", "candidates", "rejected_by_reason"):
        assert manifests[0][key] == manifests[1][key], key


# -- the end of a run ----------------------------------------------------------------------------


def test_another_config_is_refused_with_the_differences(straight, capsys):
    assert main(generate_args(straight, "--novelty_threshold", "0.5", "--seed", "7")) == 2
    error = capsys.readouterr().err
    assert "seed: 0 -> 7" in error and "novelty_threshold: 0.85 -> 0.5" in error
    assert error.count("\n") == 1


def test_a_first_mistake_can_be_corrected_in_the_same_folder(tmp_path, capsys, teacher_url):
    def run(*more):
        return main(generate_args(tmp_path, *QUICK, *more, url=teacher_url, rows=5))

    assert run("--teacher_model", "nobody", "--seed", "1") == 3
    assert run() == 0
    assert run("--seed", "1") == 2


def test_an_unknown_model_and_a_useless_teacher_stop_the_run(tmp_path, capsys, teacher_url):
    args = generate_args(tmp_path / "a", "--teacher_model", "nobody", url=teacher_url)
    assert main(args) == 3
    assert "check teacher_model" in capsys.readouterr().err
    url = "offline?refusal=1"
    assert main(generate_args(tmp_path / "b", "--patience", "5", url=url)) == 3
    assert "5 replies in a row yielded no accepted row" in capsys.readouterr().err


@pytest.fixture
def three_seeds(tmp_path):
    """Seed tasks that all fit into one prompt, so that there are six different first prompts."""
    path = tmp_path / "seeds.jsonl"
    tasks = [{"instruction": f"Print the number {n}.", "output": f"print({n})"} for n in range(3)]
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return path


def test_a_teacher_that_repeats_itself_needs_more_seeds_or_a_smaller_lookahead(
    tmp_path, capsys, teacher_url, three_seeds
):
    def run(folder, *more):
        more = ["--seed_tasks", str(three_seeds), *QUICK, *more]
        code = main(generate_args(tmp_path / folder, *more, url=teacher_url, rows=60))
        return code, capsys.readouterr()

    code, printed = run("a", "--patience", "10", "--lookahead", "64")
    assert code == 3
    assert (
        "the first 64 prompts (lookahead) show only the 3 seed tasks and no accepted rows; use "
        "more seed tasks or a smaller lookahead in a new run_dir, or raise patience above 64"
    ) in printed.err
    assert run("a", "--patience", "65", "--lookahead", "64")[0] == 0
    assert run("b", "--patience", "10", "--lookahead", "8")[0] == 0


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_fewer_seed_tasks_than_a_prompt_shows_are_a_warning(
    tmp_path, capsys, teacher_url, three_seeds, dry_run
):
    def warnings(*more):
        more = ["--seed_tasks", str(three_seeds), "--dry_run", dry_run, *QUICK, *more]
        assert main(generate_args(tmp_path / "r", *more, url=teacher_url, rows=5)) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]

    (line,) = warnings()
    assert "3 seed tasks are fewer than seeds_per_request (6)" in line
    assert warnings("--seeds_per_request", "3") == []


def test_an_unreachable_teacher_is_exit_3(tmp_path, capsys):
    assert main(generate_args(tmp_path, url="http://127.0.0.1:9/v1")) == 3
    error = capsys.readouterr().err
    assert "does not answer" in error and error.count("\n") == 1


# -- bad input -----------------------------------------------------------------------------------


def test_a_missing_model_or_key_is_named(tmp_path, capsys):
    words = ["generate", "--run_dir", str(tmp_path / "r")]
    for url in ("http://gpu.example/v1", None):  # None: OpenAI
        assert main([*words, *(["--teacher_base_url", url] if url else [])]) == 2
        message = f"teacher_model is not set; name a model of {url or 'OpenAI'}"
        assert message in capsys.readouterr().err
    assert main([*words, "--teacher_model", "gpt"]) == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


def test_a_broken_seed_file_is_refused_with_its_line(tmp_path, capsys):
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text('{"instruction": "a", "output": "b"}\n{oops\n')
    assert main(generate_args(tmp_path / "r", "--seed_tasks", str(seeds))) == 2
    assert f"{seeds}, line 2: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--strategy", "self_instruc"],
            "(command line): there is no strategy 'self_instruc'; did you mean 'self_instruct'?\n",
        ),
        (["--strategy", "xyz"], "or write FILE.py:NAME for your own\n"),
        (["--strategy", "self_instruct=x"], "the weight 'x' of self_instruct is not a number"),
        (["--strategy", "oss_instruct"], "needs snippets"),
        (["--strategy", "evol_instruct", "--teacher_api", "completions"], "requests JSON"),
        (["--alpaca_2023_defects"], "alpaca_2023_defects has an effect only with"),
        (["--push_to_hub"], "push_to_hub needs hub_dataset_id"),
        (["--teacher_api", "batch"], "has no Batch API"),
        (["--price_per_mtok_input", "1"], "set both price_per_mtok_input"),
        (["--tokens_per_minute", "100"], "less than the limit of one reply"),
    ],
)
def test_a_config_that_cannot_work_is_refused_before_anything_is_sent(
    tmp_path, capsys, more, message
):
    assert main(generate_args(tmp_path / "r", *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_seed_tasks_that_fail_their_own_tests_are_named_before_anything_is_sent(tmp_path, capsys):
    seeds = tmp_path / "seeds.jsonl"
    tasks = [
        {"id": "adds", "output": "def f(a):\n    return a + 1", "tests": "assert f(1) == 2"},
        {"id": "broken", "output": "def f(a):\n    return a - 1", "tests": "assert f(1) == 2"},
        {"id": "untested", "output": "SELECT 1", "language": "sql"},
        {"id": "elsewhere", "output": "import nowhere", "tests": "assert nowhere.x"},
    ]
    lines = [json.dumps({"instruction": "Do it.", "language": "python", **task}) for task in tasks]
    seeds.write_text("\n".join(lines))
    more = ["--seed_tasks", str(seeds), "--decontaminate", "none"]
    assert main(generate_args(tmp_path / "run", *more)) == 2
    error = capsys.readouterr().err
    assert "1 seed task fails its own tests: broken (failed)" in error
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        assert ledger.usage()["requests"] == 0


# -- what a teacher may send ---------------------------------------------------------------------


def test_a_malformed_reply_is_recorded_and_the_run_can_resume(tmp_path, httpserver):
    """Nothing that a server sends may cost a paid reply."""
    replies = [
        {"choices": [{"message": {"content": '{"tasks": [{"instruction": ' + "9" * 5000}}]},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 10**30}},
        {"choices": [{"message": {"content": None}}], "usage": [1]},
        {"choices": [{"message": {"content": {"a": 1}}}]},
    ]
    for reply in replies:
        httpserver.expect_ordered_request("/v1/chat/completions").respond_with_json(reply)
    more = ["--max_concurrency", "1", "--patience", str(len(replies))]
    more += ["--max_prompt_tokens", "100000"]  # given, so the server is not asked for it
    assert main(generate_args(tmp_path, *more, url=httpserver.url_for("/v1"))) == 3
    assert count_replies(tmp_path) == len(replies)


def test_unusable_tasks_are_rejected_and_written_also_without_an_accepted_row(
    tmp_path, httpserver, capsys
):
    good = {"instruction": "Add two numbers in Python.", "output": "1 + 1"}
    tasks = [
        {**good, "output": "x" * (MAX_ROW_BYTES + 1)},
        {**good, "tests": "\0"},
        {**good, "input": "\0"},
        {**good, "instruction": "\ud800"},
        {**good, "output": ["a"]},
        {**good, "output": None},
        "text",
        None,
    ]
    text = json.dumps({"tasks": tasks})[:-2] + ', {"instruction": ' + "[" * 5_000
    reply = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    httpserver.expect_request("/v1/chat/completions").respond_with_json(reply)
    more = ["--patience", "2", "--max_concurrency", "1", "--filters", "none", *QUICK]
    assert main(generate_args(tmp_path, *more, url=httpserver.url_for("/v1"))) == 3
    output = capsys.readouterr()
    assert "2 replies in a row yielded no accepted row" in output.err
    assert f"are in {tmp_path}/dataset/data/rejected" in output.out
    rows = load_dataset(
        str(tmp_path / "dataset"), "rejected", split="train", cache_dir=str(tmp_path / "cache")
    )
    reasons = rows["reason"][:9]
    assert reasons[:4] == ["row_too_large", "not_text", "not_text", "not_text"]
    assert set(reasons[4:]) == {"malformed"}
    assert max(map(len, rows["output"])) <= 2_000
    with pytest.raises(InputError, match="no row was accepted"):
        build_dataset(tmp_path)


# -- what a run reports --------------------------------------------------------------------------


def test_printed_counts_are_those_of_the_dataset_and_skipped_decontamination_is_the_last_line(
    tmp_path, capsys, teacher_url
):
    more = ["--lookahead", "4", "--max_concurrency", "4", "--verify", "false",
            "--decontaminate", "humaneval", "--missing_benchmarks", "skip"]  # fmt: skip
    assert main(generate_args(tmp_path, *more, url=teacher_url, rows=12)) == 0
    output = capsys.readouterr().out
    manifest = json.loads((tmp_path / "dataset/manifest.json").read_text())
    assert manifest["counts"]["default"] == 12
    assert f"12 rows accepted of {manifest['candidates']} candidates" in output
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        surplus = ledger.accepted_count() - 12
    assert surplus > 0 and f"the ledger keeps {surplus} more accepted row" in output
    assert "decontamination skipped for humaneval" in output.strip().splitlines()[-1]


def test_a_dry_run_prints_one_prompt_and_the_estimates_and_sends_nothing(tmp_path, capsys):
    more = ["--dry_run", "--price_per_mtok_input", "1", "--price_per_mtok_output", "2"]
    more += ["--requests_per_minute", "1"]
    assert main(generate_args(tmp_path / "r", *more, url="http://127.0.0.1:9/v1", rows=9)) == 0
    output = capsys.readouterr().out
    assert PromptTemplates().render("rules", wish={}) in output
    assert "requests  at least 2; about 3 if 60% is accepted" in output
    assert "time      about 3 minutes" in output and "$2 out per million" in output
    assert output.rstrip().endswith("nothing was sent")
    assert not (tmp_path / "r").exists()


def test_no_secret_reaches_the_run_folder(tmp_path, monkeypatch, teacher_url):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert main(generate_args(tmp_path, url=teacher_url)) == 0
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()


@pytest.mark.parametrize("recorded", [True, False], ids=["of_this_version", "of_an_earlier_one"])
def test_a_resumed_run_names_its_own_seed_tasks_as_it_did(tmp_path, recorded):
    """Earlier versions numbered tasks without an id, as the built-in ones are."""
    tasks = [
        {"instruction": f"Return {word} of a list.", "output": f"def f(x):\n    return {word}(x)\n"}
        for word in ("the sum", "the maximum", "the length")
    ]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    words = ["generate", "--run_dir", str(tmp_path / "run"), "--teacher_base_url", "offline",
             "--seed_tasks", str(tmp_path / "seeds.jsonl"), "--verify", "false"]  # fmt: skip
    assert main([*words, "--num_examples", "5"]) == 0
    with Ledger(tmp_path / "run/ledger.sqlite") as ledger:
        before = len(list(ledger.accepted()))
        if not recorded:
            ledger.set_meta("seed_ids", "")
    assert main([*words, "--num_examples", str(before + 20)]) == 0
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        rows = list(ledger.accepted())
    numbered = {f"seed_{number:03}" for number in range(3)}
    assert not numbered & {name for row in rows[:before] for name in row.seed_ids}
    assert bool(numbered & {name for row in rows[before:] for name in row.seed_ids}) != recorded

"""A user's file that fails, or is edited during a run: nothing is lost, all versions recorded."""

from __future__ import annotations

import json
import re

import pytest
from support.generation_runs import (
    QUICK,
    count_replies,
    dataset_hash,
    generate_args,
    read_payloads,
    read_rows,
)

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger
from code_alpaca.generation.request_plan import read_prompt

ACCEPT = ("--accept_edited_files", "true")
ASK = """\
from code_alpaca.generation.strategies import Prompt, prompt_fields

def ask(context):
    task = context.rng.choice(context.seed_tasks)
    text = context.render("self_instruct", examples=[prompt_fields(task)])
    return Prompt(text, [task.id])
"""
FAILS_LATE = ASK.replace("    return", "    context.pool and 1 / 0\n    return")
FAILS_ON_A_ROW = "def keep(example):\n    return 'list' not in example.instruction or 1 / 0\n"
KEEPS_ALL = "def keep(example):\n    return True\n"
DROPS_ALL = "def drop(example):\n    return 'mine'\n"


def read_changes(run_dir):
    return json.loads((run_dir / "dataset/manifest.json").read_text()).get("config_changes", [])


def read_answered(run_dir):
    """Return the texts of the prompts that were answered, by request number."""
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        answers = {k: ledger.answered(k) for k in range(ledger.usage()["requests"])}
    return {k: read_prompt(answer[0])[0] for k, answer in answers.items() if answer}


def test_a_strategy_that_fails_in_the_middle_keeps_replies_and_resumes_when_corrected(
    tmp_path, capsys, teacher_url
):
    file, run_dir = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(FAILS_LATE)
    args = generate_args(run_dir, *QUICK, "--strategy", f"{file}:ask", url=teacher_url, rows=60)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert f"{file}:ask failed: ZeroDivisionError: division by zero (line 6); correct" in error
    before = read_answered(run_dir)
    assert f"; {len(before)} replies are kept in {run_dir}/ledger.sqlite" in error
    assert error.count("\n") == 1

    file.write_text(ASK)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert f"{file} changed since" in error and not re.search("[0-9a-f]{12}", error)
    assert main([*args, *ACCEPT]) == 0
    output = capsys.readouterr().out
    assert output.count(f"from now on the edited version is used of {file}\n") == 1
    assert read_answered(run_dir).items() >= before.items(), "no reply is paid for twice"

    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        places = list(ledger.accepted_places())
        versions = [{row.prompt_version for k, _, row in places if (k in before) is old}
                    for old in (True, False)]  # fmt: skip
    (old,), (new,) = versions
    manifest = json.loads((run_dir / "dataset/manifest.json").read_text())
    assert manifest["prompt_version"] == f"{old}, {new}" and old != new
    (change,) = read_changes(run_dir)
    assert change["from_request"] == min(set(range(len(before) + 1)) - before.keys())
    assert change["changed"]["prompt_version"] == [old, new]
    assert set(change["changed"]) == {"prompt_version", "mine.py:ask"}

    assert main(args) == 0, "the accepted version is now the one of the run"
    assert len(read_changes(run_dir)) == 1


def test_a_filter_that_fails_loses_no_reply_and_rejects_no_row(tmp_path, capsys, teacher_url):
    file, run_dir = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(FAILS_ON_A_ROW)
    more = [*QUICK, "--filters", f"{file}:keep"]
    args = generate_args(run_dir, *more, url=teacher_url, rows=40)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert "mine.py:keep failed on the row '" in error and error.count("\n") == 1
    assert "ZeroDivisionError: division by zero (line 2); correct the file" in error
    assert f"; {count_replies(run_dir)} replies are kept in {run_dir}/ledger.sqlite" in error

    file.write_text(KEEPS_ALL)
    assert main([*args, *ACCEPT]) == 0
    (change,) = read_changes(run_dir)
    assert list(change["changed"]) == ["mine.py"]
    straight = tmp_path / "straight"
    assert main(generate_args(straight, *more, url=teacher_url, rows=40)) == 0
    assert read_rows(run_dir, 40) == read_rows(straight, 40)


def test_without_an_edit_the_key_changes_nothing(tmp_path, capsys, teacher_url):
    file = tmp_path / "mine.py"
    file.write_text(ASK + KEEPS_ALL)
    more = [*QUICK, "--strategy", f"{file}:ask", "--filters", f"default,{file}:keep"]
    hashes = []
    for name, accept in (("plain", ()), ("accepting", ACCEPT)):
        for rows in (5, 20):
            args = generate_args(tmp_path / name, *more, *accept, url=teacher_url, rows=rows)
            assert main(args) == 0, capsys.readouterr()
        hashes.append(dataset_hash(tmp_path / name))
        assert not read_changes(tmp_path / name)
    assert hashes[0] == hashes[1]


def test_a_run_is_resumed_with_an_edited_template_if_asked_for(tmp_path, capsys, teacher_url):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "rules.jinja").write_text("Only Python.\n")
    args = [*QUICK, "--prompts", str(prompts)]
    assert main(generate_args(tmp_path / "run", *args, url=teacher_url, rows=5)) == 0
    (prompts / "rules.jinja").write_text("Only Go.\n")
    args += ACCEPT
    assert main(generate_args(tmp_path / "run", *args, url=teacher_url, rows=60)) == 0
    assert f"is used of the prompt templates in {prompts}" in capsys.readouterr().out
    texts = [json.dumps(payload) for payload in read_payloads(tmp_path / "run")]
    (change,) = read_changes(tmp_path / "run")
    first = change["from_request"]
    assert all("Only Python." in text for text in texts[:first])
    assert texts[first:] and all("Only Go." in text for text in texts[first:])
    assert {row["prompt_version"] for row in read_rows(tmp_path / "run")} == {
        *change["changed"]["prompt_version"]
    }


@pytest.mark.parametrize("key", [("--seed_tasks", "seeds.jsonl"), ("--seed", "1")])
def test_other_content_and_config_are_refused_even_with_accept_edited_files(
    tmp_path, monkeypatch, capsys, key
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seeds.jsonl").write_text(
        '{"instruction": "Add two numbers in Python.", "output": "1 + 1"}\n'
    )
    assert main(generate_args(tmp_path / "run", *QUICK, rows=5)) == 0
    assert main(generate_args(tmp_path / "run", *QUICK, *ACCEPT, *key, rows=5)) == 2
    assert "use a new run_dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ask", "advice"),
    [
        (ASK, "mine.py:drop rejected 15 of the last 15 rows; correct it and rerun"),
        (
            ASK.replace("text = ", "text = 'Write five tasks.' or "),
            "these requests had the same prompt; vary it with context.rng and rerun",
        ),
    ],
)
def test_replies_without_an_accepted_row_name_the_users_file(
    tmp_path, capsys, teacher_url, ask, advice
):
    file = tmp_path / "mine.py"
    file.write_text(ask + DROPS_ALL)
    more = [*QUICK, "--strategy", f"{file}:ask", "--filters", f"{file}:drop", "--patience", "3"]
    assert main(generate_args(tmp_path / "run", *more, url=teacher_url)) == 3
    error = capsys.readouterr().err
    assert "3 replies in a row yielded no accepted row (rejected so far: 15 mine)" in error
    assert advice in error and error.count("\n") == 1

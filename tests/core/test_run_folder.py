"""A run folder: which keys may change between two starts, and that nothing is paid for twice."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import sqlite3

import pytest
from support.generation_runs import QUICK, generate_args, read_payloads, read_rows

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.row_checks import MAX_ROW_BYTES
from code_alpaca.dataset.build import build_dataset

pytestmark = pytest.mark.usefixtures("without_plots")


def run_args(run_dir, *more, **changes):
    return generate_args(run_dir, *QUICK, *more, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 10 rows; tests do not change it."""
    run_dir = tmp_path_factory.mktemp("finished")
    assert main(run_args(run_dir)) == 0
    return run_dir


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of it to change."""
    return shutil.copytree(finished, tmp_path / "run")


def add_reply(run_dir, **payload_changes):
    """Add a reply that arrived just before a kill: answered, and not decided."""
    task = {"instruction": "Multiply two matrices of any size.", "output": "a @ b"}
    text = json.dumps({"tasks": [task]})
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        number = ledger.next_undecided()
        payload, requested, _ = copy.deepcopy(ledger.answered(number - 1))
        payload |= payload_changes
        key = ledger.request(
            number, "/chat/completions", payload, seed_ids=["shown"], asked=requested
        )
        ledger.save_reply(key, {"choices": [{"message": {"content": text}}]})
    return number, task


def test_request_keys_may_change_for_requests_that_are_not_answered(run_dir, capsys):
    before = read_payloads(run_dir)
    number, task = add_reply(run_dir, messages=[{"role": "user", "content": "as it was sent"}])
    more = ["--temperature", "0.5", "--tasks_per_request", "2", "--seeds_per_request", "1",
            "--pool_per_request", "0", "--max_completion_tokens", "1000"]  # fmt: skip
    capsys.readouterr()
    assert main(run_args(run_dir, *more, rows=20)) == 0
    out = capsys.readouterr().out
    assert f"not answered yet, from request {number + 1}:" in out
    assert "temperature 1.0 -> 0.5" in out and "tasks_per_request 5 -> 2" in out

    after = read_payloads(run_dir)
    assert after[:number] == before[:number], "answered requests keep their payload"
    assert after[number]["messages"][0]["content"] == "as it was sent"
    assert {payload["temperature"] for payload in after[number + 1 :]} == {0.5}
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = list(ledger.accepted())
        assert ledger.usage()["replies"] == len(after), "no request was sent twice"
    (row,) = [row for row in rows if row.instruction == task["instruction"]]
    assert row.seed_ids == ["shown"]
    assert {len(row.seed_ids) for row in rows[-2:]} == {1}

    manifest = json.loads((run_dir / "dataset/manifest.json").read_text())
    (change,) = manifest["config_changes"]
    assert change["from_request"] == number + 1
    assert change["changed"]["seeds_per_request"] == [6, 1]


def test_the_dataset_names_every_teacher_model_that_answered(run_dir):
    changes = [{"from_request": 1, "changed": {"teacher_model": ["older", "offline-teacher"]}}]
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        ledger.set_meta("config_changes", json.dumps(changes))
    build_dataset(run_dir, draw_plots=False)
    manifest = json.loads((run_dir / "dataset/manifest.json").read_text())
    assert manifest["teacher"] == "older, offline-teacher"


@pytest.mark.parametrize(
    ("key", "value", "difference"),
    [
        ("strategy", "evol_instruct", "strategy: 'self_instruct' -> 'evol_instruct'"),
        ("lookahead", "4", "lookahead: 8 -> 4"),
        ("filters", "default,legacy_length", "(filters: added legacy_length)"),
        ("teacher_base_url", "http://127.0.0.1:9/v1", "teacher_base_url: 'offline' -> "),
    ],
)
def test_keys_that_identify_a_run_are_refused_with_both_values(
    finished, capsys, key, value, difference
):
    assert main(run_args(finished, f"--{key}", value)) == 2
    error = capsys.readouterr().err
    assert difference in error and "a new run_dir" in error and error.count("\n") == 1


def test_a_run_without_the_keys_of_later_versions_is_resumed(run_dir):
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        config = json.loads(ledger.meta("config"))
        for key in ("novelty_nearest", "snippets_column", "prompts", "alpaca_2023_defects"):
            del config[key]
        ledger.set_meta("config", json.dumps({**config, "seed_compat_defects": False}))  # old name
    assert main(run_args(run_dir, rows=12)) == 0


OLD_NAME = "seed_compat"  # old name of alpaca_2023


def record_old_name(run_dir):
    """Turn a run of alpaca_2023 into one of the version that called it otherwise."""
    with contextlib.closing(sqlite3.connect(run_dir / "ledger.sqlite")) as database, database:
        for table, column in (("meta", "value"), ("requests", "asked"), ("decisions", "row")):
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, 'alpaca_2023', '{OLD_NAME}')"
            )


def test_a_run_that_recorded_an_old_strategy_name_is_resumed_under_it(tmp_path, capsys):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    more = ["--strategy", "alpaca_2023=1,self_instruct=1", "--tasks_per_request", "2"]
    assert main(run_args(straight, *more, rows=30)) == 0
    assert main(run_args(resumed, *more, rows=5)) == 0
    assert "warning" not in capsys.readouterr().out
    record_old_name(resumed)
    old_spelling = [word.replace("alpaca_2023", OLD_NAME) for word in more]
    assert main(run_args(resumed, *old_spelling, rows=30)) == 0
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert OLD_NAME in warning and "alpaca_2023" in warning

    rows = read_rows(resumed, 30)
    assert {row["strategy"] for row in rows} == {OLD_NAME, "self_instruct"}
    for row in rows:
        row["strategy"] = row["strategy"].replace(OLD_NAME, "alpaca_2023")
    assert rows == read_rows(straight, 30)


def test_a_failed_first_request_leaves_the_folder_free_and_its_cost_counts(
    tmp_path, httpserver, capsys
):
    httpserver.expect_request("/v1/chat/completions").respond_with_data("broken", status=500)
    price = ["--price_per_mtok_input", "1", "--price_per_mtok_output", "1"]
    url = httpserver.url_for("/v1")
    assert main(run_args(tmp_path, *price, "--seed", "1", "--max_concurrency", "1", url=url)) == 3
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        spent = ledger.spent()
    assert spent > 0, "the server may have billed what it failed to answer"
    assert main(run_args(tmp_path, *price, "--strategy", "evol_instruct")) == 0, capsys.readouterr()
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert ledger.spent() > spent
        assert {row.strategy for row in ledger.accepted()} == {"evol_instruct"}


@pytest.mark.parametrize("damage", ["emptied", "deleted", "new"])
def test_a_lost_ledger_beside_a_dataset_with_rows_is_refused(run_dir, capsys, damage):
    path = run_dir / "ledger.sqlite"
    path.unlink()
    if damage == "emptied":
        path.touch()
    elif damage == "new":
        Ledger(path).close()
    card = (run_dir / "dataset/README.md").read_bytes()
    assert main(run_args(run_dir, url="http://127.0.0.1:9/v1")) == 2
    error = capsys.readouterr().err
    assert "from a backup" in error and error.count("\n") == 1
    assert (run_dir / "dataset/README.md").read_bytes() == card


def test_the_write_ahead_log_of_an_emptied_ledger_is_kept(tmp_path, capsys):
    (tmp_path / "ledger.sqlite").touch()
    (tmp_path / "ledger.sqlite-wal").write_bytes(b"replies")
    assert main(run_args(tmp_path)) == 2
    assert "restore ledger.sqlite from a backup" in capsys.readouterr().err
    assert (tmp_path / "ledger.sqlite-wal").read_bytes() == b"replies"


def test_a_damaged_row_is_rejected_and_replaced_on_resume(run_dir, capsys):
    path = run_dir / "ledger.sqlite"
    with Ledger(path) as ledger:
        text = next(ledger.accepted()).instruction
        ledger.set_meta("note", "")
    content = path.read_bytes()
    stored = json.dumps(text)[:-1].encode()
    old, new = b'{"instruction": ' + stored, b'{"instruction": "~' + stored[2:]
    path.write_bytes(content.replace(old, new))
    assert main(run_args(run_dir)) == 0
    assert "1 accepted rows" in capsys.readouterr().out
    counts = json.loads((run_dir / "dataset/manifest.json").read_text())
    assert counts["rejected_by_reason"]["damaged_row"] == 1 and counts["counts"]["default"] == 10


def test_a_secret_in_the_config_of_an_old_run_is_not_published(run_dir, capsys):
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        config = {**ledger.record("config"), "teacher_base_url": "http://h/v1?api_key=hunter2"}
        ledger.set_meta("config", json.dumps(config))
    build_dataset(run_dir, draw_plots=False)
    assert main(["report", "--run_dir", str(run_dir)]) == 0
    published = [*run_dir.glob("dataset/**/*"), *run_dir.glob("report*")]
    assert published and not any(b"hunter2" in p.read_bytes() for p in published if p.is_file())
    assert "hunter2" not in "".join(capsys.readouterr())


def test_a_source_with_a_row_that_is_too_large_is_refused_by_number(tmp_path, capsys):
    rows = [{"instruction": f"Do {n}.", "input": "", "output": "x"} for n in range(3)]
    rows[1]["output"] *= MAX_ROW_BYTES
    source = tmp_path / "rows.json"
    source.write_text(json.dumps(rows))
    assert main(["publish", "--source", str(source), "--run_dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "row 2: " in error and "1,048,5" in error and error.count("\n") == 1
    assert not (tmp_path / "run/dataset").exists()

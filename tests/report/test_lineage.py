"""A row leads to its seed tasks, prompt, reply and decisions, in a terminal and on the page."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
from support.browser import browser  # noqa: F401
from support.generation_runs import read_payloads, read_rows

from code_alpaca.cli import main
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.records import RunSummary
from code_alpaca.core.schema import Example, content_id, load_seed_tasks
from code_alpaca.report.lineage import LineageReader
from code_alpaca.report.page import PageContent, write_page
from code_alpaca.report.page_origins import pack_origins

SEED_TASKS = {task.id: task for task in load_seed_tasks()}


@pytest.fixture
def report(run_dir, without_plots, capsys):
    """Return a function that runs `report` on the run and returns what it prints."""

    def run(*words, code=0, folder=run_dir):
        assert main(["report", "--run_dir", str(folder), *words]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


def record_exchange(folder, texts, reply="{}", request=0, reason=""):
    """Add a request and its reply to a ledger, with a candidate for each text."""
    with Ledger(folder / "ledger.sqlite") as ledger:
        key = ledger.request(request, "/chat", {"messages": [{"content": f"prompt {request}"}]})
        ledger.save_reply(key, {"choices": [{"message": {"content": reply}}]})
        rows = [Example(text, "", text, id=row_id(text), request_id=key[:16]) for text in texts]
        ledger.decide(request, [Decision(row, reason, "evidence of it") for row in rows])
    return key[:16]


def row_id(text):
    return content_id(text, "", text)


def test_a_row_is_printed_with_all_that_it_came_from(report, run_dir):
    row = read_rows(run_dir)[7]
    text = report("--row", row["id"])
    assert text.startswith(f"=== ROW {row['id']} ===\naccepted\n{row['instruction']}")
    assert row["seed_ids"]
    for seed_id in row["seed_ids"]:
        task = SEED_TASKS[seed_id]
        assert f"=== SEED TASK {seed_id} ===\n{task.instruction}" in text and task.output in text
    with LineageReader(run_dir / "ledger.sqlite", write=False) as reader:
        exchange = reader.exchange(row["request_id"])
    (prompt,), (reply,) = exchange.request.texts, exchange.reply.texts
    assert prompt == read_payloads(run_dir)[exchange.number]["messages"][-1]["content"]
    assert prompt in text and reply in text and json.loads(reply)["tasks"]
    decisions = text.partition("=== DECISIONS")[2]
    assert f"> {row['id']}  accepted: {row['instruction']}" in decisions
    assert len(exchange.decisions) == len(decisions.strip().splitlines()) - 1
    assert not (run_dir / "report.html").exists()


def test_a_rejected_row_names_its_reason_and_the_beginning_of_an_id_is_enough(report, tmp_path):
    record_exchange(tmp_path, ["Print 1.", "Print 2."], reason="too_similar")
    text = report("--row", row_id("Print 1.")[:8], folder=tmp_path)
    assert text.startswith(f"=== ROW {row_id('Print 1.')} ===\nrejected as too_similar (evidence")
    assert f"  {row_id('Print 2.')}  rejected as too_similar (evidence of it): Print 2." in text


@pytest.mark.parametrize(
    ("given", "message"),
    [("zzz", "has no row 'zzz'"), ("", "has no row ''"), ("%", "has no row '%'")],
)
def test_an_unknown_row_is_refused(report, given, message):
    error = report("--row", given, code=2)
    assert message in error and error.count("\n") == 1


def test_an_ambiguous_id_is_refused(report, tmp_path):
    texts = [str(number) for number in range(17)]  # two of them begin with the same digit
    record_exchange(tmp_path, texts)
    first = [row_id(text)[0] for text in texts]
    digit = max(first, key=first.count)
    assert "several rows" in report("--row", digit, code=2, folder=tmp_path)


def test_control_characters_do_not_reach_the_terminal(report, tmp_path):
    text = "\x1b[2J\x1b]0;owned\x07 print"
    record_exchange(tmp_path, [text], reply=text)
    printed = report("--row", row_id(text), folder=tmp_path)
    assert "print" in printed and "\x1b" not in printed and "\x07" not in printed


def test_a_curated_row_keeps_its_seed_tasks_and_states_where_its_request_is(
    report, run_dir, tmp_path
):
    command = ["curate", "--source", str(run_dir / "dataset"), "--run_dir", str(tmp_path / "c")]
    assert main([*command, "--decontaminate", "none", "--verify", "false"]) == 0
    row = read_rows(tmp_path / "c")[0]
    text = report("--row", row["id"], folder=tmp_path / "c")
    assert f"does not contain the request {row['request_id']}" in text
    assert SEED_TASKS[row["seed_ids"][0]].output in text


def unpack(packed):
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def unpack_origins(lines):
    index, *chunks = map(unpack, lines.split("\n"))
    requests = {name: chunk[name] for chunk in chunks for name in chunk}
    assert all(name in chunks[number] for name, number in index["chunkOf"].items())
    assert requests.keys() == index["chunkOf"].keys()
    return {"requests": requests, **index}


def test_the_page_contains_the_origin_of_every_row(report, run_dir):
    report()
    html = (run_dir / "report.html").read_text(encoding="utf-8")
    origins = unpack_origins(re.search(r'id="origins">([^<]*)<', html)[1])
    rows = unpack(re.search(r'id="packed">([^<]*)<', html)[1])
    assert len(rows) >= 20
    for row in rows:
        request = origins["requests"][row["request_id"]]
        assert row["id"] in [candidate["id"] for candidate in request["candidates"]]
        for seed_id in row["seed_ids"]:
            shown = origins["seedTasks"][seed_id]["instruction"]
            assert json.dumps(shown, ensure_ascii=False) in request["prompt"]["texts"][0]


def test_origins_beyond_the_limit_are_left_out_and_counted(tmp_path):
    ids = [record_exchange(tmp_path, ["a"], request=number) for number in range(90)]
    with LineageReader(tmp_path / "ledger.sqlite", write=False) as reader:
        packed, omitted = pack_origins([*ids, "of another run"], reader, max_bytes=1)
        assert 0 < omitted < 90 and list(unpack_origins(packed)["requests"]) == ids[:-omitted]
        packed, omitted = pack_origins(ids, reader)
        assert omitted == 0 and list(unpack_origins(packed)["requests"]) == ids


@pytest.mark.browser
def test_following_a_row_in_a_browser(tmp_path, browser):  # noqa: F811
    from playwright.sync_api import expect

    hostile = "<img src=x onerror=alert(1)></script>"
    record_exchange(tmp_path, [hostile, "Print 1."], reply=f"A reply.\n{hostile}")
    with LineageReader(tmp_path / "ledger.sqlite", write=False) as reader:
        rows = [{**row.as_row(), "seed_ids": ["unknown"]} for row in reader.accepted()]
        summary = RunSummary(counts={"default": 2, "rejected": 0})
        write_page(tmp_path / "page.html", PageContent(summary, rows, tmp_path, reader))
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    errors = []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((tmp_path / "page.html").as_uri())
    article = tab.locator("article").first
    article.get_by_text("Where it comes from").click()
    expect(article.get_by_text("unknown", exact=True).last).to_be_visible()
    expect(article.get_by_text(re.compile("^Prompt of request 0"))).to_be_visible()
    expect(article.locator("pre").get_by_text("A reply.")).to_have_text(f"A reply.\n{hostile}")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    article.locator("li a").nth(1).click()
    expect(tab.locator("article h2")).to_have_text("Print 1.")
    assert not errors
    tab.close()

"""The report page shows every row as text, also in a real browser, and never runs any of it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

import pytest
from support.browser import browser  # noqa: F401

from code_alpaca.core.records import RunSummary
from code_alpaca.core.schema import Example
from code_alpaca.dataset import plots
from code_alpaca.dataset.describe import RowStatistics
from code_alpaca.report.page import PageContent, write_page

HOSTILE = [
    "</script><script>alert(1)</script>",
    '<img src="https://example.com/x.png" onerror="alert(2)">',
    "javascript:alert(3)",
    "--></style><svg/onload=alert(4)>",
    "{{ 7 * 7 }} {% raw %} \u2028 \ud800 \x00 😀",
]


def make_rows(accepted: int = 45, rejected: int = 25) -> list[dict]:
    """Return rows as the ledger has them; the rejected ones contain hostile text only."""
    rows = []
    for number in range(accepted):
        python = number % 3 != 0
        example = Example(
            f"Write a function number {number} that adds two numbers",
            "a = 1, b = 2" if number % 2 else "",
            f"def add_{number}(a, b):\n    return a + b  # 😀 sum"
            if python
            else f"SELECT a + b FROM t{number};",
            id=f"{number:016x}",
            language="Python" if python else "SQL",
            nearest_id=f"{number - 1:016x}" if number else "",
            nearest_score=0.25,
            tests=f"assert add_{number}(1, 2) == 3" if python else "",
            verification="passed" if python else "no_tests",
        )
        rows.append(example.as_row())
    for number in range(rejected):
        text = HOSTILE[number % len(HOSTILE)]
        row = Example(text, text, text, id=text, language=text, nearest_id=text, tests=text)
        reason = "too_similar" if number % 2 else HOSTILE[0]
        rows.append({**row.as_row(), "verification": text, "reason": reason, "evidence": text})
    return rows


def summarize(rows: list[dict]) -> RunSummary:
    statistics = RowStatistics()
    accepted = [row for row in rows if not row.get("reason")]
    for row in accepted:
        statistics.add(row)
    rejected = len(rows) - len(accepted)
    return RunSummary(
        name=HOSTILE[0],
        teacher=HOSTILE[1],
        counts={"default": len(accepted), "derisk": 0, "verified": 30, "rejected": rejected},
        candidates=len(rows),
        rejected_by_reason={"too_similar": rejected},
        statistics=statistics.as_dict(),
        pace=[[35, 30], [35, 15]],
    )


@pytest.fixture(scope="module")
def plot_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plots")
    plots.draw_plots(summarize(make_rows()), folder)
    return folder


def render(folder: Path, rows: list[dict], **options) -> str:
    """Write the page of some rows to `folder`, and return its HTML."""
    path = folder / "page.html"
    plot_folder = options.pop("plot_folder", folder)
    summary = options.pop("summary", None) or summarize(rows)
    content = PageContent(summary, iter(rows), plot_folder)
    assert write_page(path, content, **options) == len(rows)
    return path.read_text(encoding="utf-8")


def unpack(html: str) -> list[dict]:
    (packed,) = re.findall(r'id="packed">([A-Za-z0-9+/=]*)<', html)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_page_contains_every_row_unchanged(tmp_path):
    rows = make_rows()
    records = unpack(render(tmp_path, rows))
    assert [record.get("reason", "") for record in records] == [
        row.get("reason", "") for row in rows
    ]
    for record, row in zip(records, rows, strict=True):
        for name in ("instruction", "input", "output", "tests", "id", "nearest_id"):
            assert record.get(name, "") == row[name]


def test_a_test_strength_of_0_is_on_the_page(tmp_path):
    (row,) = make_rows(1, 0)
    (record,) = unpack(render(tmp_path, [{**row, "test_strength": 0.0}]))
    assert record["test_strength"] == 0.0
    (record,) = unpack(render(tmp_path, [row]))
    assert "test_strength" not in record


def test_a_row_is_never_markup_and_the_page_loads_nothing(tmp_path, plot_folder):
    html = render(tmp_path, make_rows(), plot_folder=plot_folder)
    for text in HOSTILE[:4]:
        assert text not in html
    assert html.count("<script") == html.count("</script>") == 3
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src &#39;none&#39;" in policy and "unsafe" not in policy
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", html)


def test_the_page_states_how_many_rows_it_leaves_out(tmp_path):
    rows = make_rows(3, 0)
    counts = {"default": 9_000, "verified": 1, "rejected": 2}
    html = render(tmp_path, rows, summary=summarize(rows).model_copy(update={"counts": counts}))
    assert "This page contains the first 3 of 9,000 accepted rows." in html
    assert "This page contains none of 2 rejected rows." in html


def test_highlighting_covers_the_text_in_utf16_code_units(tmp_path):
    row = make_rows(2, 0)[1]
    (record,) = unpack(render(tmp_path, [row]))
    runs = re.findall(r"(\d+)([a-z-])", record["colors"]["output"])
    assert sum(int(length) for length, _ in runs) == len(row["output"]) + 1  # 😀 is two units
    assert runs[0] == ("4", "k")  # def and its space
    assert "instruction" not in record["colors"]


@pytest.mark.parametrize(
    ("output", "language", "keywords"),
    [
        ("It adds two numbers and returns the sum.", "python", None),
        ("def add(a, b): ...", "Klingon", None),
        ("Here it is:\n```python\nfor x in y:\n    pass\n```\nfor all of it.", "", 2),
        ("class A:\n" + "    x = 1\n" * 2_000, "python", None),  # too long
    ],
)
def test_only_code_of_a_known_language_is_highlighted(tmp_path, output, language, keywords):
    row = Example("Do it", "", output, language=language).as_row()
    (record,) = unpack(render(tmp_path, [row]))
    colors = record.get("colors", {}).get("output")
    assert (colors is None) == (keywords is None)
    if colors:
        assert colors.count("k") >= keywords and colors.endswith("-")


def test_rows_past_the_time_budget_are_not_highlighted(tmp_path):
    row = Example("a", "", "int x;", language="c#").as_row()
    records = unpack(render(tmp_path, [row, row], highlighting_budget_s=1e-9))
    assert ["colors" in record for record in records] == [True, False]


def test_the_same_rows_give_the_same_page(tmp_path, plot_folder):
    pages = [render(tmp_path, make_rows(), plot_folder=plot_folder) for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_filtering_searching_and_paging_in_a_browser(tmp_path, browser, plot_folder, scheme):  # noqa: F811
    from playwright.sync_api import expect

    render(tmp_path, make_rows(), plot_folder=plot_folder)
    address = (tmp_path / "page.html").as_uri()
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    errors, requests, dialogs = [], [], []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    tab.goto(address)
    articles, place = tab.locator("article"), tab.locator("#place")

    expect(place).to_have_text("1 to 20 of 70")
    expect(articles).to_have_count(20)
    expect(tab.locator("figure img")).to_have_count(6)
    assert tab.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    tab.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)

    tab.keyboard.press("ArrowRight")
    expect(place).to_have_text("21 to 40 of 70")
    tab.locator("#next").click()
    tab.locator("#next").click()
    expect(place).to_have_text("61 to 70 of 70")
    expect(tab.locator("#next")).to_be_disabled()
    tab.keyboard.press("ArrowLeft")
    expect(place).to_have_text("41 to 60 of 70")
    assert tab.url.endswith("#page=3")

    tab.locator("[name=reason]").select_option("accepted")
    tab.locator("[name=language]").select_option("SQL")
    expect(place).to_have_text("1 to 15 of 15")
    tab.locator("[name=verification]").select_option("no_tests")
    tab.locator("[name=q]").fill("NUMBER 42 function")
    expect(articles).to_have_count(1)
    expect(articles.locator("pre")).to_have_text("SELECT a + b FROM t42;")
    tab.reload()
    expect(articles).to_have_count(1)
    tab.screenshot(path=tmp_path / f"{scheme}-one.png")

    tab.locator("article a").click()  # the nearest row, with all filters reset
    expect(articles.locator(".facts code").first).to_have_text(f"{41:016x}")
    expect(tab.locator("[name=reason]")).to_have_value("")
    tab.go_back()
    expect(articles).to_have_count(1)

    tab.goto(f"{address}#reason=too_similar")
    expect(place).to_have_text("1 to 12 of 12")
    expect(articles.first.locator("h2")).to_have_text(HOSTILE[1])
    tab.goto(f"{address}#reason=no+such+thing&page=99")
    expect(place).to_have_text("0 of 0")
    tab.goto(f"{address}#q=%3C%2Fscript%3E&page=2")
    expect(articles.first).to_be_visible()
    tab.screenshot(path=tmp_path / f"{scheme}-rejected.png")

    assert tab.locator("article script, article img, article svg, article style").count() == 0
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    assert not errors and not dialogs
    context.close()

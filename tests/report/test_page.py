"""The page shows what it was given, in a real browser too, and nothing in a row comes alive."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.needs import need

from code_alpaca.core import languages, plots
from code_alpaca.core.schema import Example
from code_alpaca.dataset.describe import Description
from code_alpaca.report import page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run", "--disable-quic",
]  # fmt: skip
EVIL = [
    "</script><script>alert(1)</script>",
    '<img src="https://example.com/x.png" onerror="alert(2)">',
    "javascript:alert(3)",
    "--></style><svg/onload=alert(4)>",
    "{{ 7 * 7 }} {% raw %} \u2028 \ud800 \x00 😀",
]


def some_rows(accepted: int = 45, rejected: int = 25) -> list[dict]:
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
        evil = EVIL[number % len(EVIL)]
        row = Example(evil, evil, evil, id=evil, language=evil, nearest_id=evil, tests=evil)
        reason = "too_similar" if number % 2 else EVIL[0]
        rows.append({**row.as_row(), "verification": evil, "reason": reason, "evidence": evil})
    return rows


def a_manifest(rows: list[dict]) -> dict:
    description = Description()
    accepted = [row for row in rows if not row.get("reason")]
    for row in accepted:
        description.add(row)
    rejected = len(rows) - len(accepted)
    return {
        "name": EVIL[0],
        "teacher": EVIL[1],
        "counts": {"default": len(accepted), "derisk": 0, "verified": 30, "rejected": rejected},
        "candidates": len(rows),
        "rejected_by_reason": {"too_similar": rejected},
        "statistics": description.facts(),
        "pace": [[35, 30], [35, 15]],
    }


def a_page(tmp_path: Path, rows: list[dict]) -> str:
    manifest = a_manifest(rows)
    plots.draw(manifest, tmp_path / "pictures")
    assert page.write(tmp_path / "page.html", manifest, iter(rows), tmp_path / "pictures") == len(
        rows
    )
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def unpacked(html: str) -> list[dict]:
    (packed,) = re.findall(r'id="packed">([A-Za-z0-9+/=]*)<', html)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_every_row_is_on_the_page_as_it_was(tmp_path):
    rows = some_rows()
    found = unpacked(a_page(tmp_path, rows))
    assert [each.get("reason", "") for each in found] == [row.get("reason", "") for row in rows]
    for each, row in zip(found, rows, strict=True):
        for name in ("instruction", "input", "output", "tests", "id", "nearest_id"):
            assert each.get(name, "") == row[name]


def test_a_row_is_never_markup_and_nothing_may_be_loaded(tmp_path):
    html = a_page(tmp_path, some_rows())
    for evil in EVIL[:4]:
        assert evil not in html
    assert html.count("<script") == 2 and html.count("</script>") == 2
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src &#39;none&#39;" in policy and "unsafe" not in policy
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", html)


def test_the_page_says_which_rows_it_leaves_out(tmp_path):
    rows = some_rows(3, 0)
    manifest = a_manifest(rows) | {"counts": {"default": 9_000, "verified": 1, "rejected": 2}}
    page.write(tmp_path / "page.html", manifest, rows, tmp_path)
    html = (tmp_path / "page.html").read_text()
    assert "Of 9,000 accepted rows this page holds the first 3." in html
    assert "Of 2 rejected rows this page holds none." in html


def test_colours_cover_the_text_they_stand_beside(tmp_path):
    row = some_rows(2, 0)[1]
    (record,) = unpacked(a_page(tmp_path, [row]))
    runs = re.findall(r"(\d+)([a-z-])", record["colours"]["output"])
    assert sum(int(length) for length, _ in runs) == len(row["output"]) + 1  # 😀 counts twice
    assert runs[0] == ("4", "k")  # def and its blank
    assert "instruction" not in record["colours"]


@pytest.mark.parametrize(
    ("output", "language", "colours"),
    [
        ("It adds two numbers and returns the sum.", "python", None),
        ("def add(a, b): ...", "Klingon", None),
        ("Here it is:\n```python\nfor x in y:\n    pass\n```\nfor all of it.", "", {"k": 2}),
        ("class A:\n" + "    x = 1\n" * 2_000, "python", None),
    ],
)
def test_only_code_of_a_known_language_is_coloured(tmp_path, output, language, colours):
    row = Example("Do it", "", output, language=language).as_row()
    (record,) = unpacked(a_page(tmp_path, [row]))
    told = record.get("colours", {}).get("output")
    assert (told is None) == (colours is None)
    if told:
        assert told.count("k") >= colours["k"] and told.endswith("-")


def test_every_language_it_colours_has_a_lexer():
    for language in (row.name for row in languages.TABLE if row.lexer):
        told = page._colours('x = "1" + 2;\n', language)
        assert sum(int(each) for each in re.findall(r"\d+", told)) in (0, 13)


def test_rows_made_to_keep_a_lexer_busy_do_not_hold_up_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PATIENCE", 0.5)
    row = Example("a", "", "{" + "a\n" * 1_900, language="c#").as_row()
    last = Example("b", "", "int x;", language="c#").as_row()
    began = time.monotonic()
    found = unpacked(a_page(tmp_path, [*[row] * 50, last]))
    assert time.monotonic() - began < 20 and len(found) == 51
    assert "colours" not in found[-1]


def test_the_same_rows_give_the_same_page(tmp_path):
    assert a_page(tmp_path, some_rows()) == a_page(tmp_path, some_rows())


@pytest.fixture(scope="module")
def browser():
    need(find_spec("playwright"), "playwright is not installed (pip install playwright)")
    need(CHROMIUM.exists(), f"no browser at {CHROMIUM} (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(tmp_path, browser, scheme):
    from playwright.sync_api import expect

    a_page(tmp_path, some_rows())
    address = (tmp_path / "page.html").as_uri()
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 900})
    tab = context.new_page()
    complaints, requests, dialogs = [], [], []
    tab.on("console", lambda told: complaints.append(told.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    tab.goto(address)
    shown, place = tab.locator("article"), tab.locator("#place")

    expect(place).to_have_text("1 to 20 of 70")
    expect(shown).to_have_count(20)
    expect(tab.locator("figure img")).to_have_count(6)
    assert tab.evaluate("[...document.images].every((each) => each.naturalWidth > 0)")
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
    expect(shown).to_have_count(1)
    expect(shown.locator("pre")).to_have_text("SELECT a + b FROM t42;")
    tab.reload()
    expect(shown).to_have_count(1)
    tab.screenshot(path=tmp_path / f"{scheme}-one.png")

    tab.locator("article a").click()  # to the nearest row, whose outcome and language are any
    expect(shown.locator(".facts code").first).to_have_text(f"{41:016x}")
    expect(tab.locator("[name=reason]")).to_have_value("")
    tab.go_back()
    expect(shown).to_have_count(1)

    tab.goto(f"{address}#reason=too_similar")
    expect(place).to_have_text("1 to 12 of 12")
    expect(shown.first.locator("h2")).to_have_text(EVIL[1])
    tab.goto(f"{address}#reason=no+such+thing&page=99")
    expect(place).to_have_text("0 of 0")
    tab.goto(f"{address}#q=%3C%2Fscript%3E&page=2")
    expect(shown.first).to_be_visible()
    tab.screenshot(path=tmp_path / f"{scheme}-rejected.png")

    assert tab.locator("article script, article img, article svg, article style").count() == 0
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
    assert not complaints and not dialogs
    context.close()

"""The page of the demo in Chromium: what a visitor sees, and no output of a model is run."""

from __future__ import annotations

import pytest
from support.browser import browser  # noqa: F401
from support.demo import LONG, TASK, serve, wait_for, with_settings

from code_alpaca.release import app, space
from code_alpaca.release.demo import free_port

pytestmark = pytest.mark.browser


def set_length(tab, tokens: int) -> None:
    tab.get_by_label("number input for Length").fill(str(tokens))
    tab.get_by_label("number input for Length").press("Tab")


def wait_for_longer_response(tab) -> int:
    """Wait until the response on the page grows, and return its length."""
    length = "document.querySelector('#response code')?.innerText.length || 0"
    before = tab.evaluate(length)
    tab.wait_for_function(f"({length}) > {before}")
    return tab.evaluate(length)


def test_a_response_is_streamed_stopped_and_copied_in_a_browser(served, browser, streams):  # noqa: F811
    from playwright.sync_api import expect

    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    messages, requests = [], []
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(served)
    instruction, status = tab.locator("#instruction textarea"), tab.locator("#status p")
    expect(tab.locator("#note")).to_contain_text("Read the code before you run it")
    expect(tab.locator("#head a")).to_have_attribute(
        "href", f"https://huggingface.co/datasets/some-org/some-data/tree/{'a' * 40}"
    )

    tab.locator("#go").click()
    expect(tab.locator("#instruction").get_by_text("instruction is empty")).to_be_visible()
    expect(status).to_have_count(0)
    assert ["422" in message for message in messages] == [True]  # the refusal
    messages.clear()

    tab.locator("#examples").get_by_text("Find the bug").click()
    expect(instruction).to_have_value(space.EXAMPLES[1][0])
    expect(tab.locator("#input textarea")).to_have_value(space.EXAMPLES[1][1])

    instruction.fill(TASK)
    set_length(tab, LONG)
    tab.locator("#go").click()
    expect(status).to_contain_text("Writing: ")
    lengths = [wait_for_longer_response(tab) for _ in range(3)]
    assert lengths == sorted(set(lengths))

    tab.locator("#stop").click()
    expect(status).to_have_text("Stopped.")
    wait_for(streams)
    stopped = tab.locator("#response code").inner_text()
    assert len(streams) == 1 and len(streams[0].ids) < LONG
    expect(status).to_have_text("Stopped.")

    tab.locator("#copy").click()
    expect(status).to_have_text("Copied.")
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.strip("\r\n") == stopped.strip("\r\n") and copied

    tab.set_viewport_size({"width": 375, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
    set_length(tab, 20)
    tab.locator("#go").click()
    expect(status).to_contain_text("Truncated at the limit of 20 tokens")

    assert not [url for url in requests if not url.startswith((served, "data:", "blob:"))]
    assert not messages
    context.close()


def test_visitors_wait_in_line_in_a_browser(demo_folder, demo_model, streams, browser):  # noqa: F811
    from playwright.sync_api import expect

    page = serve(with_settings(demo_model, demo_folder, concurrency=1, queue_size=1))
    tabs = [browser.new_page() for _ in range(3)]
    for tab, status in zip(tabs, ["Writing: ", "Waiting in line.", "No response."], strict=True):
        tab.goto(page.local_url)
        tab.locator("#instruction textarea").fill(TASK)
        set_length(tab, LONG)
        tab.locator("#go").click()
        expect(tab.locator("#status p")).to_contain_text(status)
    expect(tabs[2].get_by_text("currently busy").first).to_be_visible()
    tabs[1].locator("#stop").click()
    expect(tabs[1].locator("#status p")).to_have_text("Stopped.")
    tabs[2].locator("#go").click()  # the place in the queue is free again
    expect(tabs[2].locator("#status p")).to_have_text("Waiting in line.")
    tabs[0].locator("#stop").click()
    expect(tabs[2].locator("#status p")).to_contain_text("Writing: ")
    expect(tabs[0].locator("#status p")).to_have_text("Stopped.")
    expect(tabs[1].locator("#status p")).to_have_text("Stopped.")
    for tab in tabs:
        tab.close()
    wait_for(streams)
    page.close(verbose=False)


def test_closing_the_tab_ends_the_generation(served, browser, streams):  # noqa: F811
    tab = browser.new_page()
    tab.goto(served)
    tab.locator("#instruction textarea").fill(TASK)
    set_length(tab, LONG)
    tab.locator("#go").click()
    tab.locator("#response code").wait_for()
    tab.close()
    wait_for(streams)
    assert len(streams) == 1 and len(streams[0].ids) < LONG


HOSTILE = """Look: <img src="{url}x.png"> ![y]({url}y.png)
<script>document.title = "taken"</script><svg onload="document.title = 'taken'">

```html
<script>document.title = "taken"</script>
```"""


def test_markup_in_a_response_is_neither_run_nor_loaded(browser, httpserver):  # noqa: F811
    import gradio as gr

    with gr.Blocks(title="safe", analytics_enabled=False) as page:
        response = HOSTILE.replace("{url}", httpserver.url_for("/"))
        gr.Markdown(app.as_markdown(response, "python"), latex_delimiters=[], elem_id="response")
    app.serve_page(page, server_name="127.0.0.1", server_port=free_port("127.0.0.1", 0))
    tab = browser.new_page()
    tab.goto(page.local_url)
    tab.locator("#response pre").wait_for()
    tab.wait_for_load_state("networkidle")
    assert tab.title() == "safe"
    assert not httpserver.log
    tab.close()
    page.close(verbose=False)

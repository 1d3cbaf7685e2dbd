"""The demo page, which a Space serves too: it streams, stops, refuses, and runs no model output."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from itertools import islice
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import ValidationError
from gradio_client.utils import QueueError
from huggingface_hub import SpaceCard, metadata_load
from support.browser import browser  # noqa: F401

from code_alpaca.cli import main
from code_alpaca.core import languages
from code_alpaca.core.prompts import PROMPT_STYLES, format_prompt
from code_alpaca.evaluation import text_generation
from code_alpaca.release import app, space
from code_alpaca.release.demo import DemoConfig, demo_settings, free_port
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

TASK = "Write a Python function that adds two numbers."
LONG = 4000  # tokens; a random model hardly ever ends by itself


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A random model of two layers, with the run.json of a training on a Hub dataset."""
    folder = tmp_path_factory.mktemp("demo") / "model"
    texts = [format_prompt(TASK, "a = 1") + "def add(a, b):\n    return a + b\n"] * 3
    shape = ScratchShape(vocab_size=300, hidden_size=32, num_layers=2, num_heads=2, max_length=5000)
    model, tokenizer = build_scratch_model(texts, shape, seed=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = {
        "config": {"prompt_style": "alpaca_nl"},
        "dataset": {"name": "some-org/some-data", "revision": "a" * 40},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def make_settings(folder: Path, **keys: object) -> app.DemoSettings:
    config = DemoConfig(**{"model": str(folder), "max_new_tokens": LONG, **keys})
    return app.DemoSettings(**demo_settings(config))


def load_model(folder: Path, **keys: object) -> app.DemoModel:
    return app.DemoModel(make_settings(folder, **keys), text_generation.load(folder, dtype="auto"))


def serve(model: app.DemoModel):
    page = app.build_page(model)
    app.serve_page(page, server_name="127.0.0.1", server_port=free_port("127.0.0.1", 0))
    return page


@pytest.fixture(scope="module")
def model(model_folder):
    # It repeats the last token of its prompt: a colon is visible on the page, a newline is not.
    return load_model(model_folder, prompt_style="alpaca")


@pytest.fixture(scope="module")
def served(model):
    """The address of the page of `model`."""
    page = serve(model)
    yield page.local_url
    page.close(verbose=False)


@pytest.fixture(scope="module")
def client(served):
    return Client(served, verbose=False)


class ObservedStream(app.ResponseStream):
    """A response that records when it starts, and how many are generated at the same time."""

    lock = threading.Lock()
    active = max_active = 0

    def __init__(self, *arguments) -> None:
        self.started = threading.Event()
        super().__init__(*arguments)

    def put(self, ids) -> None:
        super().put(ids)
        if not self.started.is_set():
            self.started.set()
            with self.lock:
                type(self).active += 1
                type(self).max_active = max(self.max_active, self.active)

    def end(self) -> None:
        with self.lock:
            type(self).active -= 1


@pytest.fixture
def streams(monkeypatch):
    """The responses that the page generates during a test."""
    created = []
    ObservedStream.active = ObservedStream.max_active = 0

    def create(*arguments):
        created.append(ObservedStream(*arguments))
        return created[-1]

    monkeypatch.setattr(app, "ResponseStream", create)
    return created


def join_responses() -> None:
    """Wait until no response is being generated."""
    for thread in threading.enumerate():
        if thread.name == "response":
            thread.join(60)
            assert not thread.is_alive()


def respond(model: app.DemoModel, *request) -> app.ResponseStream:
    stream = ObservedStream(model, *model.parse_request(*request))
    join_responses()
    return stream


# -- generation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_prompts_are_those_of_training_token_by_token(model_folder, model, style):
    model = app.DemoModel(make_settings(model_folder, prompt_style=style), model.loaded)
    for task in [(TASK, ""), (TASK, "a = {1}\n\tb"), ("Ж {input} 加 😀", "{x}")]:
        expected = format_prompt(*task, style=style)
        assert model.format_prompt(*task) == expected
        ids, _, _ = model.parse_request(*task, 0, 1)
        assert ids == model.loaded.tokenizer(expected).input_ids


def test_the_generation_config_of_the_model_changes_no_response(model_folder, model, tmp_path):
    copy = shutil.copytree(model_folder, tmp_path / "model")
    path = copy / "generation_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, "repetition_penalty": 50.0, "num_beams": 2}))
    responses = [
        respond(other, TASK, "", 0, 30).text()
        for other in (model, load_model(copy, prompt_style="alpaca"))
    ]
    assert responses[0] == responses[1]


def test_the_response_is_that_of_generate(model):
    stream = respond(model, TASK, "", 0, 60)
    tokenizer = model.loaded.tokenizer
    inputs = tokenizer(model.format_prompt(TASK, ""), return_tensors="pt")
    inputs.pop("token_type_ids", None)
    output = model.loaded.model.generate(**inputs, max_new_tokens=60, do_sample=False)
    expected = output[0, inputs["input_ids"].shape[1] :]
    assert stream.ids == expected.tolist()
    assert stream.text() == tokenizer.decode(expected, skip_special_tokens=True)
    assert stream.truncation_note() == " Truncated at the limit of 60 tokens."


def test_a_response_ends_where_the_next_turn_begins(model):
    stream = ObservedStream(model, *model.parse_request(TASK, "", 0, LONG))
    text = "x = 1\n### Instruction:\nmore"
    stream.ids[:] = model.loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert stream.text() == "x = 1"
    join_responses()
    assert len(stream.ids) < LONG


def test_at_most_concurrency_responses_are_generated_at_once(model_folder, model):
    """A stopped response may compute a last token, and the next one waits for it."""
    single = app.DemoModel(make_settings(model_folder, concurrency=1), model.loaded)
    request = single.parse_request(TASK, "", 0, LONG)
    first, second, third = (ObservedStream(single, *request) for _ in range(3))
    assert first.started.wait(60)
    third.stop()
    assert not second.ids
    first.stop()
    assert second.started.wait(60)
    second.stop()
    join_responses()
    assert not third.ids


def test_settings_come_from_run_json(model_folder):
    settings = make_settings(model_folder)
    assert settings.prompt_without_input.endswith("### Response:\n")
    url = f"https://huggingface.co/datasets/some-org/some-data/tree/{'a' * 40}"
    assert settings.datasets == [{"name": "some-org/some-data", "url": url}]
    assert tuple(settings.stops) == PROMPT_STYLES["alpaca_nl"].stops


@pytest.mark.parametrize(
    ("instruction", "language"),
    [
        ("Write a Python function", "python"),
        ("Do it", "python"),
        ("Sort in JavaScript", "javascript"),
        ("Sort in Java.", "java"),
        ("A C++ class", "cpp"),
        ("In C, swap two ints", "c"),
        ("A SQL query", "sql"),
        ("Use C# and LINQ", "csharp"),
        ("A bash one-liner", "bash"),
        ("Let go of it, in Go", "go"),
    ],
)
def test_code_is_highlighted_in_the_language_of_the_instruction(instruction, language):
    assert app.detect_language(instruction, languages.highlighting()) == language


def test_code_is_fenced_and_existing_fences_are_kept():
    assert app.as_markdown("\n\ta = `b`\n", "go") == "```go\n\ta = `b`\n```"
    assert app.as_markdown("Text:\n```sql\nSELECT 1\n```", "python").startswith("Text:\n```sql")
    assert app.as_markdown("\n ", "python").isspace()


# -- the served page -----------------------------------------------------------------------------


def test_a_response_is_streamed(client):
    job = client.submit(TASK, "", 0, 300, api_name="/generate")
    text, markdown, status = job.result()
    lengths = [len(output[0]) for output in job.outputs()]
    assert len(set(lengths)) >= 3 and lengths == sorted(lengths)
    assert status.startswith("300 tokens in ") and "limit of 300" in status
    assert markdown.startswith("```python\n") and text.strip("\r\n") in markdown


def test_stop_ends_the_generation(served, streams):
    job = Client(served, verbose=False).submit(TASK, "", 0, LONG, api_name="/generate")
    assert len(list(islice(job, 2))) == 2
    job.cancel()
    join_responses()
    assert len(streams) == 1 and len(streams[0].ids) < LONG


def test_a_visitor_who_leaves_ends_the_generation(served, streams):
    code = (
        "import sys; from gradio_client import Client;"
        "job = Client(sys.argv[1], verbose=False).submit("
        "'Add', '', 0, int(sys.argv[2]), api_name='/generate');"
        "next(iter(job)); print('streaming', flush=True); job.result()"
    )
    visitor = subprocess.Popen(
        [sys.executable, "-c", code, served, str(LONG)], stdout=subprocess.PIPE, text=True
    )
    assert visitor.stdout.readline() == "streaming\n"
    visitor.kill()
    visitor.wait()
    visitor.stdout.close()
    join_responses()
    assert len(streams) == 1 and len(streams[0].ids) < LONG


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        (("", "", 0, 10), "instruction is empty"),
        ((" \n\t", "x = 1", 0, 10), "instruction is empty"),
        ((None, None, 0, 10), "instruction is empty"),
        (("a" * 100_000, "", 0, 10), "100,000 characters together; the limit is 8,000"),
        ((TASK, "b" * 100_000, 0, 10), "the limit is 8,000"),
        (("ж" * 5000, "", 0, 10), "reads at most 5,000, its response included"),
        ((TASK, "", 2.5, 10), "temperature must be"),
        ((TASK, "", "hot", 10), "temperature must be"),
        ((TASK, "", 0, LONG + 1), f"between 1 and {LONG}"),
        ((TASK, "", 0, None), "length must be"),
    ],
)
def test_an_invalid_request_is_refused(client, streams, request_fields, message):
    with pytest.raises(ValidationError, match=message):
        client.predict(*request_fields, api_name="/generate")
    assert not streams


@pytest.mark.parametrize(
    "instruction",
    ["a\0b", "\x01\x1b[31m\x7f\x85\u2028", "Напиши функцию", "关于排序",
     "اكتب دالة", "</s><s>", "<script>alert(1)</script>", "{instruction} {0} %s {{"],
)  # fmt: skip
def test_any_text_is_answered(client, instruction):
    _, _, status = client.predict(instruction, instruction, 0.7, 5, api_name="/generate")
    assert " tokens in " in status


def test_lone_surrogates_over_http_are_answered(served):
    body = '{"data": ["\\ud800 x", "\\udfff", 0, 3], "session_hash": "s1", "fn_index": %d}'
    config = httpx.get(f"{served}config").json()
    fn = next(item["id"] for item in config["dependencies"] if item["api_name"] == "generate")
    response = httpx.post(
        f"{served}gradio_api/queue/join",
        content=body % fn,
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 200
    url = f"{served}gradio_api/queue/data?session_hash=s1"
    with httpx.stream("GET", url, timeout=30) as events:
        last = [line for line in events.iter_lines() if "process_completed" in line][-1]
    assert '"success":true' in last and " tokens in " in last


def test_twenty_visitors_at_once_are_answered_or_asked_to_try_later(model_folder, model, streams):
    small = app.DemoModel(make_settings(model_folder, queue_size=6, concurrency=2), model.loaded)
    page = serve(small)

    def visit(number: int) -> str:
        try:
            visitor = Client(page.local_url, verbose=False)
            return visitor.predict(f"Task {number}", "", 0.5, 100, api_name="/generate")[2]
        except QueueError as error:
            return str(error)

    with ThreadPoolExecutor(20) as visitors:
        statuses = list(visitors.map(visit, range(20)))
    page.close(verbose=False)
    join_responses()
    answered = sum(" tokens in " in status for status in statuses)
    busy = sum("full" in status for status in statuses)
    assert answered + busy == 20 and answered >= 8
    assert ObservedStream.max_active <= 2
    assert small.slots.acquire(blocking=False) and small.slots.acquire(blocking=False)


# -- Spaces --------------------------------------------------------------------------------------


@pytest.fixture
def space_folder(model_folder, tmp_path):
    folder = tmp_path / "space"
    settings = space.make_settings(
        str(model_folder),
        revision=None,
        prompt_style="alpaca_nl",
        datasets={"some-org/some-data": "v1.0.0", "my/own/rows": None},
        title="Ask: it's for code",
        max_new_tokens=50,
    )
    space.write_space(folder, settings)
    return folder


def test_the_folder_of_a_space_is_complete(space_folder):
    assert {path.name for path in space_folder.iterdir()} == set(space.FILES)
    pins = (space_folder / "requirements.txt").read_text().splitlines()
    versions = {name: metadata.version(name).split("+")[0] for name in space.REQUIRED}
    assert pins == [f"{name}=={number}" for name, number in versions.items()]
    card = metadata_load(space_folder / "README.md")
    assert card == SpaceCard.load(space_folder / "README.md").data.to_dict()
    assert card["title"] == "Ask: it's for code" and card["app_file"] == "app.py"
    assert card["sdk"] == "gradio" and card["sdk_version"] == versions["gradio"]
    assert card["datasets"] == ["some-org/some-data"] and card["pinned"] is False
    assert "models" not in card  # a local folder is no model of the Hub
    settings = json.loads((space_folder / "settings.json").read_text())
    assert settings["prompt_with_input"] == format_prompt(
        "{instruction}", "{input}", style="alpaca_nl"
    )
    text = (space_folder / "README.md").read_text()
    assert "datasets/some-org/some-data/tree/v1.0.0" in text and "Read the code" in text


def test_a_space_of_a_hub_model_links_it(tmp_path):
    settings = space.make_settings(
        "some-org/some-model", revision="v1.0.0", prompt_style="alpaca", datasets={}, title="T"
    )
    space.write_space(tmp_path, settings)
    assert metadata_load(tmp_path / "README.md")["models"] == ["some-org/some-model"]
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["revision"] == "v1.0.0"
    assert settings["model_url"] == "https://huggingface.co/some-org/some-model/tree/v1.0.0"


def test_the_app_of_a_space_runs_without_code_alpaca(space_folder):
    port = free_port("127.0.0.1", 0)
    code = (
        "import runpy, sys; sys.modules['code_alpaca'] = None;"
        "runpy.run_path('app.py', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=space_folder,
        env={**os.environ, "GRADIO_SERVER_PORT": str(port), "PYTHONPATH": ""},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as http:
            http.get(url)  # retried until the server is up
        visitor = Client(url, verbose=False)
        assert " tokens in " in visitor.predict(TASK, "", 0, 20, api_name="/generate")[2]
    finally:
        process.kill()
        process.wait()


# -- the command ---------------------------------------------------------------------------------


def test_the_command_serves_until_ctrl_c(model_folder):
    command = [sys.executable, "-m", "code_alpaca.cli", "demo", "--model", str(model_folder)]
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("demo      http://127.0.0.1:") and str(model_folder) in line
        visitor = Client(line.split()[1], verbose=False)
        job = visitor.submit(TASK, "", 0, 512, api_name="/generate")
        assert len(list(islice(job, 2))) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing key 'model'"),
        (["--model", "no/such/folder"], "neither a folder nor a Hub id"),
        (["--model", "."], "it contains no config.json"),
        (["--model", "MODEL", "--model_revision", "v1"], "leave model_revision out"),
        (["--model", "nobody/nothing"], "cannot load model nobody/nothing"),
        (["--model", "MODEL", "--port", "TAKEN"], "is in use; choose another --port"),
        (["--model", "MODEL", "--host", "192.0.2.1"], "cannot serve on 192.0.2.1"),
        (["--model", "MODEL", "--port", "65536"], "at most 65535"),
        (["--model", "MODEL", "--prompt_style", "chat"], next(iter(PROMPT_STYLES))),
    ],
)
def test_bad_input_is_refused_in_one_line(
    model_folder, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"MODEL": str(model_folder), "TAKEN": str(taken.getsockname()[1])}
        if "--port" not in words:
            words = [*words, "--port", "0"]
        assert main(["demo", *(names.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert len([line for line in error if "code-alpaca demo" in line]) == 1


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json", "run.json"])
def test_a_broken_model_is_refused(model_folder, tmp_path, capsys, broken):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / broken).write_bytes(b"{nothing")
    assert main(["demo", "--model", str(folder), "--port", "0"]) == 2
    assert "code-alpaca demo: cannot " in capsys.readouterr().err


def test_a_prompt_style_of_another_version_is_refused(model_folder, tmp_path, capsys):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "run.json").write_text('{"config": {"prompt_style": "qa"}}')
    assert main(["demo", "--model", str(folder), "--port", "0"]) == 2
    assert "this version has no prompt style 'qa'" in capsys.readouterr().err


def test_the_demo_needs_gradio(model_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--model", str(model_folder)]) == 2
    assert "gradio is not installed; pip install" in capsys.readouterr().err


# -- in a browser --------------------------------------------------------------------------------


def set_length(tab, tokens: int) -> None:
    tab.get_by_label("number input for Length").fill(str(tokens))
    tab.get_by_label("number input for Length").press("Tab")


def wait_for_longer_response(tab) -> int:
    """Wait until the response on the page grows, and return its length."""
    length = "document.querySelector('#response code')?.innerText.length || 0"
    before = tab.evaluate(length)
    tab.wait_for_function(f"({length}) > {before}")
    return tab.evaluate(length)


@pytest.mark.browser
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
    join_responses()
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


@pytest.mark.browser
def test_visitors_wait_in_line_in_a_browser(model_folder, model, browser):  # noqa: F811
    from playwright.sync_api import expect

    settings = make_settings(model_folder, concurrency=1, queue_size=1)
    page = serve(app.DemoModel(settings, model.loaded))
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
    join_responses()
    page.close(verbose=False)


@pytest.mark.browser
def test_closing_the_tab_ends_the_generation(served, browser, streams):  # noqa: F811
    tab = browser.new_page()
    tab.goto(served)
    tab.locator("#instruction textarea").fill(TASK)
    set_length(tab, LONG)
    tab.locator("#go").click()
    tab.locator("#response code").wait_for()
    tab.close()
    join_responses()
    assert len(streams) == 1 and len(streams[0].ids) < LONG


HOSTILE = """Look: <img src="{url}x.png"> ![y]({url}y.png)
<script>document.title = "taken"</script><svg onload="document.title = 'taken'">

```html
<script>document.title = "taken"</script>
```"""


@pytest.mark.browser
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


def test_a_space_links_the_hub_that_hf_endpoint_names():
    """In a process of its own, since huggingface_hub reads its environment once."""
    code = "from code_alpaca.release.space import hub_url; print(hub_url('org/model', 'v1.0.0'))"
    env = {**os.environ, "HF_ENDPOINT": "https://hub.example"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "https://hub.example/org/model/tree/v1.0.0\n", done.stderr

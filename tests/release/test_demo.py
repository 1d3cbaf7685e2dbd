"""The page that is served is the one that a Space gets: it answers, stops, refuses, and holds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import ValidationError
from gradio_client.utils import QueueError
from huggingface_hub import SpaceCard, metadata_load
from support.needs import need

from code_alpaca.cli import main
from code_alpaca.core import languages
from code_alpaca.core.prompts import PROMPT_STYLES, format_prompt
from code_alpaca.release import app, space
from code_alpaca.release.demo import DemoConfig, free_port, settings_of
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run", "--disable-quic",
]  # fmt: skip
TASK = "Write a Python function that adds two numbers."
LONG = 4000  # tokens: seconds of writing, since a random model hardly ever ends by itself


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A random model of two layers, with the run.json of an sft on a Hub dataset."""
    folder = tmp_path_factory.mktemp("demo") / "model"
    texts = [format_prompt(TASK, "a = 1") + "def add(a, b):\n    return a + b\n"] * 3
    model, tokenizer = build_scratch_model(
        texts,
        ScratchShape(vocab_size=300, hidden_size=32, num_layers=2, num_heads=2, max_length=5000),
        seed=1,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = {
        "config": {"prompt_style": "alpaca_nl"},
        "dataset": {"name": "some-org/some-data", "revision": "a" * 40},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def app_settings(folder: Path, **changes: object) -> app.Settings:
    words = {"model": str(folder), "max_new_tokens": LONG, **changes}
    return app.Settings(**settings_of(DemoConfig(**words)))


@pytest.fixture(scope="module")
def model(model_folder):
    # It repeats the prompt's last token: a colon can be seen, a newline cannot.
    return app.Model(app_settings(model_folder, prompt_style="alpaca"))


@pytest.fixture(scope="module")
def served(model):
    """The address of the page of `model`."""
    page = app.build(model)
    app.serve(page, server_name="127.0.0.1", server_port=free_port("127.0.0.1", 0))
    yield page.local_url
    page.close(verbose=False)


@pytest.fixture
def client(served):
    return Client(served, verbose=False)


def writing() -> int:
    """The answers that are being written in this process."""
    return sum(thread.name == "answer" for thread in threading.enumerate())


def wait_until(true, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("style", ["alpaca", "alpaca_nl"])
def test_prompts_are_those_of_training_token_by_token(model_folder, style):
    model = app.Model(app_settings(model_folder, prompt_style=style))
    for task in [(TASK, ""), (TASK, "a = {1}\n\tb"), ("Ж {input} 加 😀", "{x}")]:
        prompt = model.prompt(*task)
        assert prompt == format_prompt(*task, style=style)
        ids, _, _ = model.question(*task, 0, 1)
        assert ids.tolist() == [model.tokenizer(format_prompt(*task, style=style)).input_ids]


def test_the_models_own_generation_config_changes_no_answer(model_folder, model, tmp_path):
    copy = shutil.copytree(model_folder, tmp_path / "model")
    path = copy / "generation_config.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**found, "repetition_penalty": 50.0, "num_beams": 2}))
    answers = []
    for asked in (model, app.Model(app_settings(copy, prompt_style="alpaca"))):
        answer = app.Answer(asked, *asked.question(TASK, "", 0, 30))
        wait_until(lambda answer=answer: answer.done)
        answers.append(answer.text())
    assert answers[0] == answers[1]


def test_the_answer_is_what_generate_gives(model):
    prompt = model.prompt(TASK, "")
    answer = app.Answer(model, *model.question(TASK, "", 0, 60))
    wait_until(lambda: answer.done)
    inputs = model.tokenizer(prompt, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    out = model.model.generate(**inputs, max_new_tokens=60, do_sample=False)
    expected = out[0, inputs["input_ids"].shape[1] :]
    assert answer.ids == expected.tolist()
    assert answer.text() == model.tokenizer.decode(expected, skip_special_tokens=True)
    assert answer.how_it_ended() == " Cut off at the limit of 60 tokens."


def test_what_run_json_says(model_folder):
    settings = app_settings(model_folder)
    assert settings.prompt_without_input.endswith("### Response:\n")
    url = f"https://huggingface.co/datasets/some-org/some-data/tree/{'a' * 40}"
    assert settings.datasets == [{"name": "some-org/some-data", "url": url}]
    assert tuple(settings.stops) == PROMPT_STYLES["alpaca"].stops


def test_an_answer_ends_where_the_next_turn_begins(model):
    answer = app.Answer(model, *model.question(TASK, "", 0, LONG))
    answer.ids[:] = model.tokenizer("x = 1\n### Instruction:\nmore", add_special_tokens=False)[
        "input_ids"
    ]
    assert answer.text() == "x = 1"
    wait_until(lambda: answer.done)
    assert len(answer.ids) < LONG


def test_answers_take_turns(model_folder):
    """Whoever has stopped may still be at a last token; the next one waits for its end."""
    alone = app.Model(app_settings(model_folder, concurrency=1))
    first, second, third = (app.Answer(alone, *alone.question(TASK, "", 0, LONG)) for _ in "123")
    wait_until(lambda: first.ids)
    third.stop()
    assert not second.ids
    first.stop()
    wait_until(lambda: first.done and second.ids)
    second.stop()
    wait_until(lambda: second.done and third.done)
    assert not third.ids


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
def test_the_highlighter_is_that_of_the_language_asked_for(instruction, language):
    assert app.language_of(instruction, languages.highlighting()) == language


def test_code_is_fenced_and_fences_are_kept():
    assert app.as_markdown("\n\ta = `b`\n", "go") == "```go\n\ta = `b`\n```"
    assert app.as_markdown("Text:\n```sql\nSELECT 1\n```", "python").startswith("Text:\n```sql")
    assert app.as_markdown("\n ", "python").isspace()


def test_it_streams(client):
    job = client.submit(TASK, "", 0, 300, api_name="/generate")
    text, shown, told = job.result()
    lengths = [len(each[0]) for each in job.outputs()]
    assert len(set(lengths)) >= 3 and lengths == sorted(lengths)
    assert told.startswith("300 tokens in ") and "limit of 300" in told
    assert shown.startswith("```python\n") and text.strip("\r\n") in shown


def test_stop_ends_the_thread(client):
    job = client.submit(TASK, "", 0, LONG, api_name="/generate")
    wait_until(lambda: len(job.outputs()) >= 2)
    assert writing() == 1
    job.cancel()
    wait_until(lambda: writing() == 0, 2)


def test_a_visitor_who_leaves_ends_the_thread(served):
    code = (
        "import sys; from gradio_client import Client;"
        "job = Client(sys.argv[1], verbose=False).submit("
        "'Add', '', 0, int(sys.argv[2]), api_name='/generate');"
        "next(iter(job)); print('seen', flush=True); job.result()"
    )
    visitor = subprocess.Popen(
        [sys.executable, "-c", code, served, str(LONG)], stdout=subprocess.PIPE, text=True
    )
    assert visitor.stdout.readline() == "seen\n"
    assert writing() == 1
    visitor.kill()
    visitor.wait()
    visitor.stdout.close()
    wait_until(lambda: writing() == 0, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("", "", 0, 10), "instruction is empty"),
        ((" \n\t", "x = 1", 0, 10), "instruction is empty"),
        ((None, None, 0, 10), "instruction is empty"),
        (("a" * 100_000, "", 0, 10), "100,000 characters together; 8,000"),
        ((TASK, "b" * 100_000, 0, 10), "8,000 are the most"),
        (("ж" * 5000, "", 0, 10), "5,000 at most, its answer included"),
        ((TASK, "", 2.5, 10), "temperature must be"),
        ((TASK, "", "hot", 10), "temperature must be"),
        ((TASK, "", 0, LONG + 1), f"between 1 and {LONG}"),
        ((TASK, "", 0, None), "length must be"),
    ],
)
def test_what_is_refused_and_how(client, words, said):
    with pytest.raises(ValidationError, match=said):
        client.predict(*words, api_name="/generate")
    assert writing() == 0


@pytest.mark.parametrize(
    "instruction",
    ["a\0b", "\x01\x1b[31m\x7f\x85\u2028", "Напиши функцию", "关于排序",
     "اكتب دالة", "</s><s>", "<script>alert(1)</script>", "{instruction} {0} %s {{"],
)  # fmt: skip
def test_any_text_is_answered(client, instruction):
    _, _, told = client.predict(instruction, instruction, 0.7, 5, api_name="/generate")
    assert " tokens in " in told


def test_lone_surrogates_over_http(served):
    import httpx

    body = '{"data": ["\\ud800 x", "\\udfff", 0, 3], "session_hash": "s1", "fn_index": %d}'
    config = httpx.get(f"{served}config").json()
    fn = next(each["id"] for each in config["dependencies"] if each["api_name"] == "generate")
    sent = httpx.post(
        f"{served}gradio_api/queue/join",
        content=body % fn,
        headers={"content-type": "application/json"},
    )
    assert sent.status_code == 200
    with httpx.stream("GET", f"{served}gradio_api/queue/data?session_hash=s1", timeout=10) as told:
        last = [line for line in told.iter_lines() if "process_completed" in line][-1]
    assert '"success":true' in last and " tokens in " in last


def test_twenty_visitors_at_once(model_folder):
    small = app.Model(app_settings(model_folder, queue_size=6, concurrency=2))
    page = app.build(small)
    app.serve(page, server_name="127.0.0.1", server_port=free_port("127.0.0.1", 0))
    most = 0

    def visit(number: int) -> str:
        try:
            visitor = Client(page.local_url, verbose=False)
            return visitor.predict(f"Task {number}", "", 0.5, 100, api_name="/generate")[2]
        except QueueError as error:
            return str(error)

    with ThreadPoolExecutor(20) as visitors:
        jobs = [visitors.submit(visit, number) for number in range(20)]
        while not all(job.done() for job in jobs):
            most = max(most, writing())
            time.sleep(0.01)
    page.close(verbose=False)
    told = [job.result() for job in jobs]
    answered = sum(each.startswith("100 tokens") or " tokens in " in each for each in told)
    busy = sum("full" in each for each in told)
    assert answered + busy == 20 and answered >= 8
    assert most <= 3  # two, and one that is at its last token
    wait_until(lambda: writing() == 0)
    assert small.turns.acquire(blocking=False) and small.turns.acquire(blocking=False)


@pytest.fixture
def space_folder(model_folder, tmp_path):
    folder = tmp_path / "space"
    space.write_space(
        folder,
        model=str(model_folder),
        revision=None,
        datasets={"some-org/some-data": "v1.0.0", "my/own/rows": None},
        title="Ask: it's for code",
        prompt_style="alpaca_nl",
        max_new_tokens=50,
    )
    return folder


def test_the_folder_of_a_space(space_folder):
    from importlib import metadata

    assert sorted(path.name for path in space_folder.iterdir()) == [
        "README.md", "app.py", "requirements.txt", "settings.json",
    ]  # fmt: skip
    pins = (space_folder / "requirements.txt").read_text().splitlines()
    versions = {name: metadata.version(name).split("+")[0] for name in space.REQUIRED}
    assert pins == [f"{name}=={number}" for name, number in versions.items()]
    card = metadata_load(space_folder / "README.md")
    assert card == SpaceCard.load(space_folder / "README.md").data.to_dict()
    assert card["title"] == "Ask: it's for code" and card["app_file"] == "app.py"
    assert card["sdk"] == "gradio" and card["sdk_version"] == versions["gradio"]
    assert card["datasets"] == ["some-org/some-data"] and card["pinned"] is False
    assert "models" not in card  # a folder is no model of the Hub
    settings = json.loads((space_folder / "settings.json").read_text())
    assert settings["prompt_with_input"] == format_prompt(
        "{instruction}", "{input}", style="alpaca_nl"
    )
    text = (space_folder / "README.md").read_text()
    assert "datasets/some-org/some-data/tree/v1.0.0" in text and "Read the code" in text


def test_a_space_of_a_hub_model(tmp_path):
    space.write_space(
        tmp_path, model="some-org/some-model", revision="v1.0.0", datasets={}, title="T"
    )
    assert metadata_load(tmp_path / "README.md")["models"] == ["some-org/some-model"]
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["revision"] == "v1.0.0"
    assert settings["model_url"] == "https://huggingface.co/some-org/some-model/tree/v1.0.0"


def test_the_app_of_a_space_runs_alone(space_folder):
    port = free_port("127.0.0.1", 0)
    alone = (
        "import runpy, sys; sys.modules['code_alpaca'] = None;"
        "runpy.run_path('app.py', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", alone],
        cwd=space_folder,
        env={**os.environ, "GRADIO_SERVER_PORT": str(port), "PYTHONPATH": ""},
    )
    try:
        wait_until(lambda: process.poll() is not None or answers(port), 60)
        visitor = Client(f"http://127.0.0.1:{port}", verbose=False)
        assert " tokens in " in visitor.predict(TASK, "", 0, 20, api_name="/generate")[2]
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_command_serves_until_ctrl_c(model_folder):
    command = [sys.executable, "-m", "code_alpaca.cli", "demo", "--model", str(model_folder)]
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("demo      http://127.0.0.1:") and str(model_folder) in line
        visitor = Client(line.split()[1], verbose=False)
        job = visitor.submit(TASK, "", 0, 512, api_name="/generate")
        wait_until(lambda: len(job.outputs()) >= 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "missing key 'model'"),
        (["--model", "no/such/folder"], "neither a folder nor a Hub id"),
        (["--model", "."], "it holds no config.json"),
        (["--model", "MODEL", "--model_revision", "v1"], "leave model_revision out"),
        (["--model", "nobody/nothing"], "cannot load model nobody/nothing"),
        (["--model", "MODEL", "--port", "TAKEN"], "is taken; choose another --port"),
        (["--model", "MODEL", "--host", "192.0.2.1"], "cannot serve on 192.0.2.1"),
        (["--model", "MODEL", "--port", "65536"], "less than or equal to 65535"),
        (["--model", "MODEL", "--prompt_style", "chat"], "'alpaca' or 'alpaca_nl'"),
    ],
)
def test_bad_input_is_one_line(model_folder, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"MODEL": str(model_folder), "TAKEN": str(taken.getsockname()[1])}
        if "--port" not in words:
            words = [*words, "--port", "0"]
        assert main(["demo", *(names.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert said in error[-1]
    assert len([line for line in error if "code-alpaca demo" in line]) == 1


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json", "run.json"])
def test_a_model_that_is_broken(model_folder, tmp_path, capsys, broken):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in model_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / broken).write_bytes(b"{nothing")
    assert main(["demo", "--model", str(folder), "--port", "0"]) == 2
    assert "code-alpaca demo: cannot " in capsys.readouterr().err


def test_without_gradio(model_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--model", str(model_folder)]) == 2
    assert "pip install 'gradio" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser():
    need(find_spec("playwright"), "playwright is not installed (pip install -e '.[dev]')")
    need(CHROMIUM.exists(), f"{CHROMIUM} is not there (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.browser
def test_in_a_browser(served, browser):
    from playwright.sync_api import expect

    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    complaints, requests = [], []
    tab.on("console", lambda told: complaints.append(told.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(served)
    instruction, status = tab.locator("#instruction textarea"), tab.locator("#status p")
    answer = tab.locator("#answer code")
    expect(tab.locator("#note")).to_contain_text("Read the code before you run it")
    expect(tab.locator("#head a")).to_have_attribute(
        "href", f"https://huggingface.co/datasets/some-org/some-data/tree/{'a' * 40}"
    )

    tab.locator("#go").click()
    expect(tab.locator("#instruction").get_by_text("instruction is empty")).to_be_visible()
    expect(status).to_have_count(0)
    assert ["422" in told for told in complaints] == [True]  # the browser tells of the refusal
    complaints.clear()

    tab.locator("#examples").get_by_text("Find the bug").click()
    expect(instruction).to_have_value(space.EXAMPLES[1][0])
    expect(tab.locator("#input textarea")).to_have_value(space.EXAMPLES[1][1])

    instruction.fill(TASK)
    tab.get_by_label("number input for Length").fill(str(LONG))
    tab.get_by_label("number input for Length").press("Tab")
    tab.locator("#go").click()
    expect(status).to_contain_text("Writing: ")
    seen = []
    for _ in range(5):
        seen.append(len(answer.inner_text()) if answer.count() else 0)
        tab.wait_for_timeout(200)
    assert seen == sorted(seen) and len(set(seen)) >= 3
    assert writing() == 1

    tab.locator("#stop").click()
    expect(status).to_have_text("Stopped.")
    wait_until(lambda: writing() == 0, 2)
    stopped = answer.inner_text()
    tab.wait_for_timeout(400)
    assert answer.inner_text() == stopped and len(stopped) < LONG
    expect(status).to_have_text("Stopped.")

    tab.locator("#copy").click()
    expect(status).to_have_text("Copied.")
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.strip("\r\n") == stopped.strip("\r\n") and copied

    tab.set_viewport_size({"width": 375, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
    tab.get_by_label("number input for Length").fill("20")
    tab.get_by_label("number input for Length").press("Tab")
    tab.locator("#go").click()
    expect(status).to_contain_text("Cut off at the limit of 20 tokens")

    assert not [url for url in requests if not url.startswith((served, "data:", "blob:"))]
    assert not complaints
    context.close()
    assert writing() == 0


@pytest.mark.browser
def test_in_a_browser_that_waits_in_line(model_folder, browser):
    from playwright.sync_api import expect

    page = app.build(app.Model(app_settings(model_folder, concurrency=1, queue_size=1)))
    app.serve(page, server_name="127.0.0.1", server_port=free_port("127.0.0.1", 0))
    tabs = [browser.new_page() for _ in range(3)]
    for tab, told in zip(tabs, ["Writing: ", "Waiting in line.", "Not answered."], strict=True):
        tab.goto(page.local_url)
        tab.locator("#instruction textarea").fill(TASK)
        tab.get_by_label("number input for Length").fill(str(LONG))
        tab.get_by_label("number input for Length").press("Tab")
        tab.locator("#go").click()
        expect(tab.locator("#status p")).to_contain_text(told)
    expect(tabs[2].get_by_text("currently busy").first).to_be_visible()
    tabs[1].locator("#stop").click()
    expect(tabs[1].locator("#status p")).to_have_text("Stopped.")
    tabs[2].locator("#go").click()  # the place in line is free again
    expect(tabs[2].locator("#status p")).to_have_text("Waiting in line.")
    tabs[0].locator("#stop").click()
    expect(tabs[2].locator("#status p")).to_contain_text("Writing: ")
    expect(tabs[0].locator("#status p")).to_have_text("Stopped.")
    expect(tabs[1].locator("#status p")).to_have_text("Stopped.")
    for tab in tabs:
        tab.close()
    wait_until(lambda: writing() == 0, 3)
    page.close(verbose=False)


@pytest.mark.browser
def test_a_closed_tab_ends_the_answer(served, browser):
    tab = browser.new_page()
    tab.goto(served)
    tab.locator("#instruction textarea").fill(TASK)
    tab.get_by_label("number input for Length").fill(str(LONG))
    tab.get_by_label("number input for Length").press("Tab")
    tab.locator("#go").click()
    tab.locator("#answer code").wait_for()
    assert writing() == 1
    tab.close()
    wait_until(lambda: writing() == 0, 3)


HOSTILE = """Look: <img src="{url}x.png"> ![y]({url}y.png)
<script>document.title = "taken"</script><svg onload="document.title = 'taken'">

```html
<script>document.title = "taken"</script>
```"""


@pytest.mark.browser
def test_nothing_in_an_answer_comes_alive(browser, httpserver):
    """A page like ours, showing an answer as a model could write it."""
    import gradio as gr

    with gr.Blocks(title="safe", analytics_enabled=False) as page:
        answer = HOSTILE.replace("{url}", httpserver.url_for("/"))
        gr.Markdown(app.as_markdown(answer, "python"), latex_delimiters=[], elem_id="answer")
    app.serve(page, server_name="127.0.0.1", server_port=free_port("127.0.0.1", 0))
    tab = browser.new_page()
    tab.goto(page.local_url)
    tab.locator("#answer pre").wait_for()
    tab.wait_for_timeout(300)
    assert tab.title() == "safe"
    assert not httpserver.log
    tab.close()
    page.close(verbose=False)

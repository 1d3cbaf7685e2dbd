"""Serve a web page to try a model: enter an instruction and watch the code appear.

`code-alpaca demo` uses this file, and a Hugging Face Space contains it next to settings.json and
text_generation.py. So it is one file, and needs only gradio, torch and transformers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import re
import threading
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

try:
    from code_alpaca.evaluation import text_generation
except ImportError:  # in a Space
    import text_generation

CONTENT_SECURITY_POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
POLL_INTERVAL_S = 0.1  # between two updates of a response; a closed tab is noticed as often
CSS = """
.gradio-container > main, .gradio-container .main { max-width: 1160px; margin: 0 auto; }
#head h1 { margin: 0 0 .2rem; font-size: 1.6rem; }
#head p, #status p { margin: 0; opacity: .8; }
#note { border-left: 3px solid #d97706; padding: .1rem .8rem;
  background: var(--block-background-fill); }
#response { min-height: 17rem; padding: .9rem; border: 1px solid var(--border-color-primary);
  border-radius: var(--block-radius); background: var(--block-background-fill); }
#response:not(:has(pre, p))::before { content: "The response appears here.";
  color: var(--body-text-color-subdued); }
#response pre, #response code { white-space: pre-wrap; overflow-wrap: anywhere; }
#status { min-height: 1.6rem; }
"""
# `navigator.clipboard` exists only on https and on localhost.
COPY_JS = """async (text) => {
  if (!text) return "There is no response yet.";
  try { await navigator.clipboard.writeText(text); return "Copied."; } catch {}
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done ? "Copied." : "The browser does not allow copying; select the text instead.";
}"""
# To gradio, a stopped response has failed, and its failure event comes after the Stop button's.
START_JS = "(...fields) => { window.stopped = false; return fields; }"
STOP_JS = "() => { window.stopped = true; return 'Stopped.'; }"
FAILURE_JS = "() => window.stopped ? 'Stopped.' : 'No response.'"


@dataclasses.dataclass(frozen=True)
class DemoSettings:
    """The texts of the page, and the limits of its visitors."""

    title: str
    model: str  # folder or Hub id
    # With the placeholders {instruction} and {input}; both are empty to use the chat template.
    prompt_with_input: str
    prompt_without_input: str
    safety_note: str
    revision: str | None = None
    model_url: str = ""
    datasets: list[dict[str, str]] = dataclasses.field(default_factory=list)  # name and url
    examples: list[list[str]] = dataclasses.field(default_factory=list)  # instruction and input
    stops: list[str] = dataclasses.field(default_factory=list)  # strings that end a response
    # Fence tags of programming languages, with the words of an instruction that name each.
    languages: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    dtype: str = "auto"  # of the weights; auto: bfloat16 if the GPU has it, else float32
    max_new_tokens: int = 512
    max_characters: int = 8000  # of an instruction and its input together
    max_seconds: float = 300  # for one response
    concurrency: int = 2  # responses generated at the same time
    queue_size: int = 64  # visitors that may wait; others are asked to try later


def build_page(model: DemoModel) -> gr.Blocks:
    """Return the page, which is not served yet."""
    settings = model.settings
    with gr.Blocks(title=settings.title, analytics_enabled=False) as page:
        gr.Markdown(f"# {_plain(settings.title)}\n\n{_links(settings)}", elem_id="head")
        gr.Markdown(settings.safety_note, elem_id="note")
        with gr.Row():
            with gr.Column(min_width=300):
                fields = _add_fields(settings)
            with gr.Column(min_width=300):
                with gr.Row():
                    go = gr.Button("Generate", variant="primary", min_width=80, elem_id="go")
                    stop = gr.Button("Stop", min_width=80, elem_id="stop")
                    copy = gr.Button("Copy", min_width=80, elem_id="copy")
                markdown = gr.Markdown(label="As Markdown", latex_delimiters=[], elem_id="response")
                status = gr.Markdown(label="Status", elem_id="status")
                text = gr.Textbox(visible="hidden", label="Response")
        if settings.examples:
            labels = [instruction for instruction, _ in settings.examples]
            gr.Examples(settings.examples, fields[:2], example_labels=labels, elem_id="examples")
        # Without preprocessing: `parse_request` validates everything, and gradio would replace
        # the tabs of code by spaces.
        common: dict[str, Any] = {
            "validator": model.validate, "preprocess": False, "postprocess": False,
            "show_progress": "hidden",
        }  # fmt: skip
        validated = gr.on(
            [go.click, fields[0].submit],
            lambda *_: "Waiting in line.",
            fields,
            status,
            js=START_JS,
            concurrency_limit=None,
            api_visibility="private",
            **common,
        )
        generated = validated.success(
            model.respond,
            fields,
            [text, markdown, status],
            concurrency_limit=settings.concurrency,
            api_name="generate",
            **common,
        )
        for event in (validated, generated):
            event.failure(None, None, status, js=FAILURE_JS, api_visibility="private")
        stop.click(None, None, status, js=STOP_JS, cancels=[generated], api_visibility="private")
        copy.click(None, text, status, js=COPY_JS, api_visibility="private")
    # Requests past the queue would bypass its limits.
    return page.queue(max_size=settings.queue_size, api_open=False)


def _add_fields(settings: DemoSettings) -> list[Any]:
    instruction = gr.Textbox(
        label="Instruction", placeholder="Write a Python function that ...", lines=4, max_lines=12,
        elem_id="instruction",
    )  # fmt: skip
    input = gr.Textbox(
        label="Input (optional)", placeholder="Code, text or numbers to work on",
        lines=2, max_lines=12, elem_id="input",
    )  # fmt: skip
    limit = settings.max_new_tokens
    with gr.Row():
        temperature = gr.Slider(
            0, 2, 0, step=0.05, min_width=200, label="Temperature",
            info="0: always the most likely token",
        )  # fmt: skip
        length = gr.Slider(
            1, limit, min(256, limit), step=1, min_width=200, label="Length",
            info="Maximum tokens of the response",
        )  # fmt: skip
    return [instruction, input, temperature, length]


def serve_page(page: gr.Blocks, **address: Any) -> None:
    """Serve a page in background threads, without outgoing connections.

    Args:
        address: `server_name`, `server_port` and `share` of gradio's `launch`. By default gradio
            reads them from the environment, which a Space sets, else it uses 127.0.0.1:7860.

    Raises:
        OSError: the port is in use.
    """
    # gradio checks its own server by a request, which must not go through a proxy.
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [os.environ.get(name), "127.0.0.1", "localhost", address.get("server_name")]
        os.environ[name] = ",".join(filter(None, hosts))
    page.launch(
        **address,
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size=1,  # nothing here accepts a file
        ssr_mode=False,
        pwa=False,
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=CSS,
        app_kwargs={"middleware": [Middleware(restrict_sources)]},
    )


class RejectedRequest(ValueError):
    """A request that cannot be answered; the visitor reads the message."""


class DemoModel:
    """A loaded model that validates requests and generates responses.

    `stream_class` observes the responses; None: ResponseStream.
    """

    def __init__(
        self,
        settings: DemoSettings,
        loaded: text_generation.LoadedModel,
        stream_class: type[ResponseStream] | None = None,
    ) -> None:
        self.settings = settings
        self.loaded = loaded
        self._stream_class = stream_class or ResponseStream
        self.window = min(loaded.window or 10**9, loaded.tokenizer.model_max_length)
        # A stopped response may still compute its last token when the next request starts.
        self.slots = threading.BoundedSemaphore(settings.concurrency)

    def encode_prompt(self, instruction: Any, input: Any) -> list[int]:
        """Return the token ids of a request's prompt; refuse one that is empty or too long."""
        instruction, input = clean_text(instruction).strip(), clean_text(input)
        if not instruction:
            raise RejectedRequest("The instruction is empty: write what the code should do.")
        length, limit = len(instruction) + len(input), self.settings.max_characters
        if length > limit:
            raise RejectedRequest(
                f"Instruction and input have {length:,} characters together; the limit is "
                f"{limit:,}."
            )
        settings, tokenizer = self.settings, self.loaded.tokenizer
        if not settings.prompt_without_input:
            content = f"{instruction}\n\n{input}" if input.strip() else instruction
            return tokenizer.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                return_dict=False,
            )
        template = settings.prompt_with_input if input.strip() else settings.prompt_without_input
        prompt = template.format(instruction=instruction, input=input)
        return tokenizer(prompt, verbose=False).input_ids

    def parse_request(
        self, instruction: Any, input: Any, temperature: Any, max_new_tokens: Any
    ) -> tuple[list[int], float, int]:
        """Return the prompt's token ids, the temperature and the maximum number of new tokens.

        Raises:
            RejectedRequest: the prompt is empty or does not fit, or a number is out of range.
        """
        ids, limit = self.encode_prompt(instruction, input), self.settings.max_new_tokens
        temperature, max_new_tokens = parse_number(temperature), parse_number(max_new_tokens)
        if not 0 <= temperature <= 2:
            raise RejectedRequest("The temperature must be a number between 0 and 2.")
        if not 1 <= max_new_tokens <= limit:
            raise RejectedRequest(f"The length must be a number between 1 and {limit}.")
        room = self.window - len(ids)
        if room < 1:
            raise RejectedRequest(
                f"The prompt has {len(ids):,} tokens; this model reads at most {self.window:,}, "
                "its response included. Shorten the instruction or the input."
            )
        return ids, temperature, min(int(max_new_tokens), room)

    def validate(
        self, instruction: str, input: str, temperature: float, max_new_tokens: int
    ) -> list[dict[str, Any]]:
        """Check a request before it enters the queue, and return one result per field."""
        reason = ""
        try:
            self.parse_request(instruction, input, temperature, max_new_tokens)
        except RejectedRequest as error:
            reason = str(error)
        # The page shows the reason at the instruction.
        return [gr.validate(not reason, reason), *[gr.validate(True, "")] * 3]

    async def respond(
        self, instruction: str, input: str, temperature: float, max_new_tokens: int
    ) -> AsyncIterator[tuple[str, str, str]]:
        """Answer an instruction: the text so far, the same as Markdown, and the progress."""
        request = self.parse_request(instruction, input, temperature, max_new_tokens)
        response, start = self._stream_class(self, *request), time.monotonic()
        language = detect_language(str(instruction), self.settings.languages)
        try:
            while True:
                done = response.done  # before the text, so that the last text is complete
                text = response.text()
                progress = f"{len(response.ids)} tokens in {time.monotonic() - start:.1f} s."
                status = progress + response.truncation_note() if done else f"Writing: {progress}"
                if response.error:
                    raise gr.Error("The model failed. Try a shorter instruction, or try later.")
                yield text, as_markdown(text, language), status
                if done:
                    return
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:  # also if the visitor pressed Stop or left
            response.stop()


class ResponseStream:
    """A response that a background thread generates until its end, a limit or `stop()`.

    It implements the interfaces of streamers and stopping criteria. The streamers of transformers
    decode each line separately, and a LLaMA tokenizer then drops the first space of every line.
    Here all tokens are decoded together, as in an evaluation.
    """

    def __init__(
        self, model: DemoModel, prompt_ids: list[int], temperature: float, max_new_tokens: int
    ) -> None:
        self.ids: list[int] = []
        self.max_new_tokens = max_new_tokens
        self.error: BaseException | None = None
        self._model, self._prompt_ids, self._temperature = model, prompt_ids, temperature
        self._prompt_seen = False
        self._stopped, self._done = threading.Event(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self) -> None:
        """End the response after the current token."""
        self._stopped.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout: float) -> bool:
        """Return whether the response has ended within `timeout` seconds."""
        return self._done.wait(timeout)

    def text(self) -> str:
        """Return the text so far, without incomplete characters and what follows a stop string."""
        text = text_generation.decode(self._model.loaded.tokenizer, self.ids)
        complete = text_generation.truncate_at_stop(text, self._model.settings.stops)
        if complete != text:
            self.stop()
            return complete
        return text if self.done else text.rstrip("\N{REPLACEMENT CHARACTER}")

    def truncation_note(self) -> str:
        """Return which limit truncated the response, or "" if it ended by itself."""
        ended = self.ids and self.ids[-1] in self._model.loaded.end_ids
        if ended or self._stopped.is_set():
            return ""
        if len(self.ids) >= self.max_new_tokens:
            return f" Truncated at the limit of {self.max_new_tokens} tokens."
        return f" Truncated after {self._model.settings.max_seconds:g} seconds."

    def put(self, ids: Any) -> None:
        """Receive new tokens (streamer interface); the first call contains the prompt."""
        if self._prompt_seen:
            self.ids.extend(ids.tolist())
        self._prompt_seen = True

    def end(self) -> None:
        """Receive the end of the tokens (streamer interface)."""

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Return which rows of the batch should end (stopping criterion interface)."""
        return input_ids.new_full((len(input_ids),), self._stopped.is_set()).bool()

    def _run(self) -> None:
        from transformers import StoppingCriteriaList

        try:
            with self._model.slots:
                if not self._stopped.is_set():
                    self._model.loaded.generate(
                        [self._prompt_ids],
                        max_new_tokens=self.max_new_tokens,
                        temperature=self._temperature,
                        max_time=self._model.settings.max_seconds,
                        streamer=self,
                        stopping_criteria=StoppingCriteriaList([self]),
                    )
        except Exception as error:
            traceback.print_exc()
            self.error = error
        finally:
            self._done.set()


def clean_text(text: Any) -> str:
    """Return a visitor's text with lone surrogates replaced, which no tokenizer accepts."""
    text = "" if text is None else str(text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def parse_number(value: Any) -> float:
    """Return a visitor's number, or NaN, which is out of every range."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def detect_language(instruction: str, languages: dict[str, list[str]]) -> str:
    """Return the fence tag of the language that an instruction names, or "python"."""
    for language, names in languages.items():
        words = "|".join(map(re.escape, names))
        if words and re.search(rf"(?<![\w-])({words})(?![\w+#-])", instruction, re.IGNORECASE):
            return language
    return "python"


def as_markdown(text: str, language: str) -> str:
    """Return a response as Markdown: unchanged if it has fences, else as one code block."""
    text = text.strip("\r\n")
    if not text.strip() or "```" in text:
        return text
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def restrict_sources(app: Any) -> Any:
    """Add a header to an app's responses that allows the page to load from its own server only."""

    async def restricted(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_header(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", CONTENT_SECURITY_POLICY)
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await app(scope, receive, send_with_header)

    return restricted


def _links(settings: DemoSettings) -> str:
    """Return links to the model and its datasets; a local path is shortened to two parts."""
    sources = [("Model", settings.model, settings.model_url)]
    sources += [("dataset", dataset["name"], dataset["url"]) for dataset in settings.datasets]
    links = [
        f"{label} [{_plain(name)}]({url})"
        if url
        else f"{label} `{_plain('/'.join(Path(name).parts[-2:]))}`"
        for label, name, url in sources
    ]
    return ", ".join(links) + "."


def _plain(text: str) -> str:
    """Return a name without Markdown and HTML characters."""
    return " ".join(re.sub(r"[`*<>\[\]()|#&\\]", " ", text).split())


if __name__ == "__main__":
    path = Path(__file__).with_name("settings.json")
    demo_settings = DemoSettings(**json.loads(path.read_text(encoding="utf-8")))
    dtype = text_generation.resolve_dtype(demo_settings.dtype)
    model = text_generation.load(demo_settings.model, dtype=dtype, revision=demo_settings.revision)
    demo = build_page(DemoModel(demo_settings, model))
    serve_page(demo)
    demo.block_thread()

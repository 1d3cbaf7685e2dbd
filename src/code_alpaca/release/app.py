"""The page on which people try a model: an instruction in, code out, token by token.

`code-alpaca demo` serves it, and a Hugging Face Space holds this very file as its app.py, beside a
settings.json: so it needs gradio, torch and transformers, and nothing of ours.
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
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

EVERY_S = 0.1  # between two looks at an answer; whoever has left is noticed as often
CSS = """
.gradio-container > main, .gradio-container .main { max-width: 1160px; margin: 0 auto; }
#head h1 { margin: 0 0 .2rem; font-size: 1.6rem; }
#head p, #status p { margin: 0; opacity: .8; }
#note { border-left: 3px solid #d97706; padding: .1rem .8rem;
  background: var(--block-background-fill); }
#answer { min-height: 17rem; padding: .9rem; border: 1px solid var(--border-color-primary);
  border-radius: var(--block-radius); background: var(--block-background-fill); }
#answer:not(:has(pre, p))::before { content: "The answer comes here.";
  color: var(--body-text-color-subdued); }
#answer pre, #answer code { white-space: pre-wrap; overflow-wrap: anywhere; }
#status { min-height: 1.6rem; }
"""
# `navigator.clipboard` is only there on https and on this machine itself.
COPY = """async (text) => {
  if (!text) return "There is no answer yet.";
  try { await navigator.clipboard.writeText(text); return "Copied."; } catch {}
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done ? "Copied." : "The browser does not let this page copy; mark the text instead.";
}"""
# To gradio, an answer that was stopped has failed, which it tells later than the button.
ASK = "(...fields) => { window.stopped = false; return fields; }"
STOP = "() => { window.stopped = true; return 'Stopped.'; }"
FAILED = "() => window.stopped ? 'Stopped.' : 'Not answered.'"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a page is of, and how much of the machine its visitors get."""

    title: str
    model: str  # a folder or a Hub id
    prompt_with_input: str  # with {instruction} and {input}
    prompt_without_input: str  # with {instruction}
    safety_note: str
    revision: str | None = None
    model_url: str = ""
    datasets: list[dict[str, str]] = dataclasses.field(default_factory=list)  # name and url
    examples: list[list[str]] = dataclasses.field(default_factory=list)  # instruction and input
    stops: list[str] = dataclasses.field(default_factory=list)  # text at which an answer has ended
    # Fence tags of programming languages, with the words of an instruction that name each.
    languages: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    dtype: str = "auto"  # of the weights; auto: bfloat16 where the GPU has it, else float32
    max_new_tokens: int = 512
    max_characters: int = 8000  # of an instruction and its input together
    max_seconds: float = 300  # for one answer
    concurrency: int = 2  # answers that are written at the same time
    queue_size: int = 64  # visitors that may wait; the next is told to come back


class Refused(ValueError):
    """What a visitor sent cannot be answered; the message says why, and is shown to them."""


class Model:
    """A model and its tokenizer, ready to answer."""

    def __init__(self, settings: Settings) -> None:
        """Load it, on the GPU if there is one.

        Raises:
            Exception: whatever transformers says of a model that it cannot load.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = settings.dtype
        if dtype == "auto":
            bf16 = device == "cuda" and torch.cuda.is_bf16_supported()
            dtype = "bfloat16" if bf16 else "float32"
        where = {"revision": settings.revision} if settings.revision else {}
        self.settings = settings
        self.tokenizer = AutoTokenizer.from_pretrained(settings.model, **where)
        model = AutoModelForCausalLM.from_pretrained(settings.model, dtype=dtype, **where)
        self.model = model.to(device).eval()
        ends = self.model.generation_config.eos_token_id or []
        ends = {*([ends] if isinstance(ends, int) else ends), self.tokenizer.eos_token_id}
        self.ends = sorted(ends - {None})
        # Penalties, beams and banned tokens of the model's own would apply to every answer.
        self.model.generation_config = GenerationConfig(
            eos_token_id=self.ends or None,
            pad_token_id=self.tokenizer.pad_token_id or (self.ends or [0])[0],
            bos_token_id=self.tokenizer.bos_token_id,
        )
        length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self.window = min(length or 10**9, self.tokenizer.model_max_length)
        # A stopped answer may still be at its last token when the next one is let in.
        self.turns = threading.BoundedSemaphore(settings.concurrency)

    def prompt(self, instruction: Any, input: Any) -> str:
        """The Alpaca prompt of what a visitor typed.

        Raises:
            Refused: it is empty or too long.
        """
        instruction, input = clean(instruction).strip(), clean(input)
        if not instruction:
            raise Refused("The instruction is empty: write what the code should do.")
        length, most = len(instruction) + len(input), self.settings.max_characters
        if length > most:
            raise Refused(
                f"Instruction and input have {length:,} characters together; {most:,} are the most."
            )
        if not input.strip():
            return self.settings.prompt_without_input.format(instruction=instruction)
        return self.settings.prompt_with_input.format(instruction=instruction, input=input)

    def question(
        self, instruction: Any, input: Any, temperature: Any, max_new_tokens: Any
    ) -> tuple[Any, float, int]:
        """What a visitor sent, checked.

        Returns:
            Token ids of the prompt (1 x tokens), temperature, tokens that the answer may have.

        Raises:
            Refused: the prompt is empty or does not fit, or a number is out of range.
        """
        prompt, most = self.prompt(instruction, input), self.settings.max_new_tokens
        temperature, max_new_tokens = number(temperature), number(max_new_tokens)
        if not 0 <= temperature <= 2:
            raise Refused("The temperature must be a number between 0 and 2.")
        if not 1 <= max_new_tokens <= most:
            raise Refused(f"The length must be a number between 1 and {most}.")
        ids = self.tokenizer(prompt, return_tensors="pt", verbose=False).input_ids
        room = self.window - ids.shape[1]
        if room < 1:
            raise Refused(
                f"That is {ids.shape[1]:,} tokens with the prompt around it; this model reads "
                f"{self.window:,} at most, its answer included. Shorten the instruction or input."
            )
        return ids, temperature, min(int(max_new_tokens), room)


class Answer:
    """One answer being written in a thread of its own, until its end, a limit or `stop()`.

    transformers gets it as a streamer and as a stopping criterion. Its own streamers decode each
    line apart, and a LLaMA tokenizer then swallows the first space of every line's indentation;
    here all tokens are decoded together, as an evaluation does it.
    """

    def __init__(self, model: Model, prompt_ids: Any, temperature: float, limit: int) -> None:
        self.ids: list[int] = []
        self.limit = limit
        self.error: BaseException | None = None
        self.prompt_ids = prompt_ids  # 1 x tokens
        self._model, self._temperature = model, temperature
        self._prompt_seen = False
        self._stopped, self._done = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="answer", daemon=True).start()

    def stop(self) -> None:
        """Let it end with the token that it is at."""
        self._stopped.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def text(self) -> str:
        """What is written so far, without half characters and what follows a stop."""
        text = self._model.tokenizer.decode(
            self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        found = [at for stop in self._model.settings.stops if (at := text.find(stop)) >= 0]
        if found:
            self.stop()
            return text[: min(found)]
        return text if self.done else text.rstrip("\N{REPLACEMENT CHARACTER}")

    def how_it_ended(self) -> str:
        """Why there is no more of it, where that is not because it is complete."""
        if (self.ids and self.ids[-1] in self._model.ends) or self._stopped.is_set():
            return ""
        if len(self.ids) >= self.limit:
            return f" Cut off at the limit of {self.limit} tokens."
        return f" Cut off after {self._model.settings.max_seconds:g} seconds."

    def put(self, ids: Any) -> None:
        """New tokens from transformers; the first call brings the prompt."""
        if self._prompt_seen:
            self.ids.extend(ids.tolist())
        self._prompt_seen = True

    def end(self) -> None:
        """transformers has no more of them."""

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Which rows of the batch are to end, asked by transformers after each token."""
        return input_ids.new_full((len(input_ids),), self._stopped.is_set()).bool()

    def _run(self) -> None:
        import torch
        from transformers import StoppingCriteriaList

        sampling: dict[str, Any] = {}
        if self._temperature:
            sampling = {"temperature": self._temperature, "top_k": 0, "top_p": 1.0}
        try:
            with self._model.turns, torch.inference_mode():
                if self._stopped.is_set():
                    return
                ids = self.prompt_ids.to(self._model.model.device)
                self._model.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=self.limit,
                    max_time=self._model.settings.max_seconds,
                    do_sample=bool(sampling),
                    streamer=self,
                    stopping_criteria=StoppingCriteriaList([self]),
                    **sampling,
                )
        except Exception as error:
            traceback.print_exc()
            self.error = error
        finally:
            self._done.set()


def clean(text: Any) -> str:
    """A visitor's text; lone surrogates, which no tokenizer and no JSON takes, are replaced."""
    text = "" if text is None else str(text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def number(value: Any) -> float:
    """A visitor's number; NaN for what is none, which is in no range."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def language_of(instruction: str, languages: dict[str, list[str]]) -> str:
    """The fence tag of the programming language that an instruction names; else Python's."""
    for language, names in languages.items():
        words = "|".join(map(re.escape, names))
        if words and re.search(rf"(?<![\w-])({words})(?![\w+#-])", instruction, re.IGNORECASE):
            return language
    return "python"


def as_markdown(text: str, language: str) -> str:
    """An answer for the page: as it is where it has fences of its own, else one block of code."""
    text = text.strip("\r\n")
    if not text.strip() or "```" in text:
        return text
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def refusal_of(model: Model) -> Callable[..., list[dict[str, Any]]]:
    """The function that looks at what a visitor sent before it waits in line."""

    def check(
        instruction: str, input: str, temperature: float, max_new_tokens: int
    ) -> list[dict[str, Any]]:
        reason = ""
        try:
            model.question(instruction, input, temperature, max_new_tokens)
        except Refused as error:
            reason = str(error)
        # One verdict for each of the four; the page shows the reason at the instruction.
        return [gr.validate(not reason, reason), *[gr.validate(True, "")] * 3]

    return check


def answer_with(model: Model) -> Callable[..., AsyncIterator[tuple[str, str, str]]]:
    """The function behind the Generate button."""

    async def generate(
        instruction: str, input: str, temperature: float, max_new_tokens: int
    ) -> AsyncIterator[tuple[str, str, str]]:
        """Answer an instruction: the text so far, the same as Markdown, and how it goes."""
        answer = Answer(model, *model.question(instruction, input, temperature, max_new_tokens))
        language = language_of(str(instruction), model.settings.languages)
        started = time.monotonic()
        try:
            while True:
                done = answer.done  # looked at before the text, so that the last look has it all
                text = answer.text()
                told = f"{len(answer.ids)} tokens in {time.monotonic() - started:.1f} s."
                told = told + answer.how_it_ended() if done else f"Writing: {told}"
                if answer.error:
                    raise gr.Error("The model failed at this one. Try a shorter one, or later.")
                yield text, as_markdown(text, language), told
                if done:
                    return
                await asyncio.sleep(EVERY_S)
        finally:  # also when the visitor pressed Stop or left
            answer.stop()

    return generate


def build(model: Model) -> gr.Blocks:
    """The page, not served yet."""
    settings, most = model.settings, model.settings.max_new_tokens
    with gr.Blocks(title=settings.title, analytics_enabled=False) as page:
        gr.Markdown(f"# {_plain(settings.title)}\n\n{_links(settings)}", elem_id="head")
        gr.Markdown(settings.safety_note, elem_id="note")
        with gr.Row():
            with gr.Column(min_width=300):
                instruction = gr.Textbox(
                    label="Instruction",
                    placeholder="Write a Python function that ...",
                    lines=4,
                    max_lines=12,
                    elem_id="instruction",
                )
                input = gr.Textbox(
                    label="Input (optional)",
                    placeholder="What the instruction is about: code, text, numbers",
                    lines=2,
                    max_lines=12,
                    elem_id="input",
                )
                with gr.Row():
                    temperature = gr.Slider(
                        0, 2, 0, step=0.05, min_width=200, label="Temperature",
                        info="0: always the likeliest token",
                    )  # fmt: skip
                    length = gr.Slider(
                        1, most, min(256, most), step=1, min_width=200, label="Length",
                        info="Tokens of the answer, at most",
                    )  # fmt: skip
            with gr.Column(min_width=300):
                with gr.Row():
                    go = gr.Button("Generate", variant="primary", min_width=80, elem_id="go")
                    stop = gr.Button("Stop", min_width=80, elem_id="stop")
                    copy = gr.Button("Copy", min_width=80, elem_id="copy")
                shown = gr.Markdown(label="As Markdown", latex_delimiters=[], elem_id="answer")
                status = gr.Markdown(label="How it goes", elem_id="status")
                text = gr.Textbox(visible="hidden", label="Answer")
        if settings.examples:
            gr.Examples(
                settings.examples,
                [instruction, input],
                example_labels=[words for words, _ in settings.examples],
                elem_id="examples",
            )
        fields, check = [instruction, input, temperature, length], refusal_of(model)
        # `question` looks at everything, and gradio would turn the tabs of code into spaces.
        common = {
            "validator": check, "preprocess": False, "postprocess": False,
            "show_progress": "hidden",
        }  # fmt: skip
        checked = gr.on(
            [go.click, instruction.submit],
            lambda *_: "Waiting in line.",
            fields,
            status,
            js=ASK,
            concurrency_limit=None,
            api_visibility="private",
            **common,
        )
        run = checked.success(
            answer_with(model),
            fields,
            [text, shown, status],
            concurrency_limit=settings.concurrency,
            api_name="generate",
            **common,
        )
        for event in (checked, run):
            event.failure(None, None, status, js=FAILED, api_visibility="private")
        stop.click(None, None, status, js=STOP, cancels=[run], api_visibility="private")
        copy.click(None, text, status, js=COPY, api_visibility="private")
    # Requests that go around the queue would go around its limits.
    return page.queue(max_size=settings.queue_size, api_open=False)


def serve(page: gr.Blocks, **where: Any) -> None:
    """Start to serve a page in threads of their own; it talks to nobody but its visitors.

    Args:
        where: `server_name`, `server_port` and `share` of gradio's `launch`; by default as the
            environment says (a Space's does), else 127.0.0.1:7860.

    Raises:
        OSError: the port is taken.
    """
    # gradio asks its own server whether it is up; a proxy cannot answer that.
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [os.environ.get(name), "127.0.0.1", "localhost", where.get("server_name")]
        os.environ[name] = ",".join(filter(None, hosts))
    page.launch(
        **where,
        prevent_thread_lock=True,
        quiet=True,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_file_size=1,  # nothing here takes a file
        ssr_mode=False,
        pwa=False,
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=CSS,
        app_kwargs={"middleware": [Middleware(OwnServerOnly)]},
    )


class OwnServerOnly:
    """A header that lets the page load from its own server alone, whatever an answer holds."""

    POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_header(message: Any) -> None:
            if message["type"] == "http.response.start":
                header = (b"content-security-policy", self.POLICY)
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, with_header)


def _links(settings: Settings) -> str:
    """Model and dataset; of a folder only the end of its path, which may be a private matter."""
    linked = [("Model", settings.model, settings.model_url)]
    linked += [("dataset", each["name"], each["url"]) for each in settings.datasets]
    told = [
        f"{what} [{_plain(name)}]({url})"
        if url
        else f"{what} `{_plain('/'.join(Path(name).parts[-2:]))}`"
        for what, name, url in linked
    ]
    return ", ".join(told) + "."


def _plain(text: str) -> str:
    """A name without what would be Markdown or HTML on the page."""
    return " ".join(re.sub(r"[`*<>\[\]()|#&\\]", " ", text).split())


if __name__ == "__main__":
    path = Path(__file__).with_name("settings.json")
    demo = build(Model(Settings(**json.loads(path.read_text(encoding="utf-8")))))
    serve(demo)
    demo.block_thread()

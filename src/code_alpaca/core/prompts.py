"""Define the prompt styles, which training and inference share.

The two Alpaca strings are an interface shared with every Alpaca-trained model
(https://github.com/tatsu-lab/stanford_alpaca); changing a byte makes them another model's prompt.
To add a style, add a row to PROMPT_STYLES: training, evaluation, the chat template, cards and the
demo read it from there. The style `chat` is none of them: it is the model's own chat template.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, Literal

from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides "
    "further context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
PROMPT_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The text before a response, with the placeholders `{instruction}` and `{input}`.

    Raises:
        InputError: a text lacks a placeholder, or has another one; a literal brace is written `{{`.
    """

    with_input: str
    without_input: str  # for tasks that have no input
    # Strings at which a response has ended and the model starts another turn.
    stops: tuple[str, ...] = ("\n### Instruction:", "\n### Input:", "\n### Response:")

    def __post_init__(self) -> None:
        _check_placeholders("with_input", self.with_input, ("instruction", "input"))
        _check_placeholders("without_input", self.without_input, ("instruction",))
        if isinstance(self.stops, str) or not all(self.stops):
            raise InputError(f"prompt style: stops is {self.stops!r}; give a tuple of strings")


def _check_placeholders(field: str, text: str, expected: tuple[str, ...]) -> None:
    placeholders = " and ".join(f"{{{name}}}" for name in expected)
    try:
        found = {tuple(field) for _, *field in Formatter().parse(text) if field[0] is not None}
    except ValueError as error:  # of a single brace
        raise InputError(
            f"prompt style: {field} is {text!r} ({error}); write {{{{ or }}}}"
        ) from None
    if found != {(name, "", None) for name in expected}:
        raise InputError(
            f"prompt style: {field} is {text!r}; it must contain {placeholders}, and "
            "nothing else in braces"
        )


PROMPT_STYLES = {
    "alpaca": PromptTemplate(PROMPT_WITH_INPUT, PROMPT_WITHOUT_INPUT),
    # Ends in a newline, so that no tokenizer merges the final ":" with the response.
    "alpaca_nl": PromptTemplate(PROMPT_WITH_INPUT + "\n", PROMPT_WITHOUT_INPUT + "\n"),
}
CHAT = "chat"
AlpacaStyle = Literal[*PROMPT_STYLES]
PromptStyle = Literal[*PROMPT_STYLES, CHAT]


def format_prompt(instruction: str, input: str = "", style: AlpacaStyle = "alpaca") -> str:
    """Return the prompt of one task in a style of PROMPT_STYLES."""
    template = PROMPT_STYLES[style]
    text = template.with_input if input else template.without_input
    return text.format(instruction=instruction, input=input)


def user_message(instruction: str, input: str = "") -> str:
    """Return a task as one message of a user, for models with a chat template of their own."""
    return f"{instruction}\n\n{input}" if input else instruction


def default_chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a ChatML template for a tokenizer that has no chat template.

    No tokens are added to the vocabulary: the marks of ChatML are text, and the tokenizer's EOS
    token ends an answer.
    https://github.com/openai/openai-python/blob/v0.28.1/chatml.md
    """
    begin, _ = _special_text(tokenizer, "<|im_start|>")
    return (
        "{%- for message in messages -%}"
        "{%- if loop.first -%}{{ " + json.dumps(begin) + " }}{%- endif -%}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
        "{{ (eos_token if message['role'] == 'assistant' else '<|im_end|>') + '\\n' }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    )


def chat_template(tokenizer: PreTrainedTokenizerBase, style: AlpacaStyle = "alpaca") -> str:
    """Return a Jinja chat template that renders one user message as the training prompt.

    Chat servers tokenize its output without special tokens, so it writes those that the tokenizer
    adds to a prompt. A system message or a second message is an error: the model was trained on
    single turns. An `input` passed to `apply_chat_template` selects the prompt with an input.
    """
    template = PROMPT_STYLES[style]
    begin, end = _special_text(tokenizer, template.without_input)
    with_input = _as_jinja(begin, template.with_input, end)
    without = _as_jinja(begin, template.without_input, end)
    return (
        "{%- if messages | length != 1 or messages[0]['role'] != 'user' -%}"
        "{{ raise_exception('this model answers one user message; it knows no system message and "
        "no turns') }}"
        "{%- endif -%}"
        "{%- if input is defined and input -%}{{ " + with_input + " }}"
        "{%- else -%}{{ " + without + " }}{%- endif -%}"
    )


def contains_style(chat_template: str, style: AlpacaStyle) -> bool:
    """Return whether a chat template contains the text of a style, as `chat_template` writes it."""
    template = PROMPT_STYLES[style]
    texts = (template.with_input, template.without_input)
    # Special tokens may precede and follow the text, within its quotes.
    return all(_as_jinja("", text, "").strip('"') in chat_template for text in texts)


def _special_text(tokenizer: PreTrainedTokenizerBase, prompt: str) -> tuple[str, str]:
    """Return text that tokenizes to the special tokens before and after a prompt.

    A LLaMA tokenizer with `prepend_scheme: first` marks the first word after a BOS token that it
    adds itself, but not after one that the text contains: there a space must replace the mark, or
    "Below" becomes "Bel", "ow".
    """
    plain = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = tokenizer(prompt)["input_ids"]
    count = next(
        (at for at in range(len(ids)) if ids[at : at + len(plain)] == plain), len(ids) - len(plain)
    )
    begin, end = (
        "".join(tokenizer.convert_ids_to_tokens(part))
        for part in (ids[:count], ids[count + len(plain) :])
    )
    for space in ("", " "):
        text = begin + space + prompt + end
        if tokenizer(text, add_special_tokens=False)["input_ids"] == ids:
            return begin + space, end
    return begin, end


def _as_jinja(begin: str, prompt: str, end: str) -> str:
    """Return a Jinja expression that concatenates the text of a prompt and the task."""
    task = {"instruction": "\0messages[0]['content']\0", "input": "\0input\0"}
    pieces = (begin + prompt.format(**task) + end).split("\0")
    return " ~ ".join(
        piece if place % 2 else json.dumps(piece) for place, piece in enumerate(pieces) if piece
    )

"""Define the prompt styles, which training and inference share.

The two Alpaca strings are an interface shared with every Alpaca-trained model
(https://github.com/tatsu-lab/stanford_alpaca); changing a byte makes them another model's prompt.
To add a style, add a row to PROMPT_STYLES: training, evaluation, the chat template, cards and the
demo read it from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
    """The text before a response, with the places `{instruction}` and `{input}`."""

    with_input: str
    without_input: str
    # Strings at which a response has ended and the model starts another turn.
    stops: tuple[str, ...] = ("\n### Instruction:", "\n### Input:", "\n### Response:")


PROMPT_STYLES = {
    "alpaca": PromptTemplate(PROMPT_WITH_INPUT, PROMPT_WITHOUT_INPUT),
    # Ends in a newline, so that no tokenizer merges the final ":" with the response.
    "alpaca_nl": PromptTemplate(PROMPT_WITH_INPUT + "\n", PROMPT_WITHOUT_INPUT + "\n"),
}
PromptStyle = Literal[*PROMPT_STYLES]


def format_prompt(instruction: str, input: str = "", style: PromptStyle = "alpaca") -> str:
    """Return the prompt of one task in a style of PROMPT_STYLES."""
    template = PROMPT_STYLES[style]
    text = template.with_input if input else template.without_input
    return text.format(instruction=instruction, input=input)


def chat_template(tokenizer: PreTrainedTokenizerBase, style: PromptStyle = "alpaca") -> str:
    """Return a Jinja chat template that renders one user message as the training prompt.

    Chat servers tokenize its output without special tokens, so it writes those that the tokenizer
    adds to a prompt. A system message or a second message is an error: the model was trained on
    single turns. An `input` passed to `apply_chat_template` selects the prompt with an input.
    """
    template = PROMPT_STYLES[style]
    begin, end = _special_text(tokenizer, template.without_input)
    task, given = "messages[0]['content']", "input"
    with_input = _as_jinja(begin + template.with_input + end, instruction=task, input=given)
    without = _as_jinja(begin + template.without_input + end, instruction=task)
    return (
        "{%- if messages | length != 1 or messages[0]['role'] != 'user' -%}"
        "{{ raise_exception('this model answers one user message; it knows no system message and "
        "no turns') }}"
        "{%- endif -%}"
        "{%- if input is defined and input -%}{{ " + with_input + " }}"
        "{%- else -%}{{ " + without + " }}{%- endif -%}"
    )


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


def _as_jinja(prompt: str, **fields: str) -> str:
    """Return a Jinja expression that concatenates the prompt's text and its fields."""
    for name, expression in fields.items():
        prompt = prompt.replace("{" + name + "}", f"\0{expression}\0")
    pieces = prompt.split("\0")
    return " ~ ".join(
        piece if place % 2 else json.dumps(piece) for place, piece in enumerate(pieces) if piece
    )

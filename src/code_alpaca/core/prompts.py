"""The Alpaca prompts: the only place where they exist.

The two strings are an interface shared with every Alpaca-trained model
(https://github.com/tatsu-lab/stanford_alpaca); a changed byte is another model's prompt.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PromptStyle = Literal["alpaca", "alpaca_nl"]

PROMPT_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides "
    "further context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
PROMPT_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{instruction}\n\n### Response:"
)


def format_prompt(instruction: str, input: str = "", style: PromptStyle = "alpaca") -> str:
    """The prompt for one task; an empty `input` takes the form without one.

    `alpaca_nl` ends in a newline, so that no tokenizer merges the final ":" with the answer.
    """
    template = PROMPT_WITH_INPUT if input else PROMPT_WITHOUT_INPUT
    prompt = template.format(instruction=instruction, input=input)
    return prompt + "\n" if style == "alpaca_nl" else prompt


def chat_template(tokenizer: PreTrainedTokenizerBase, style: PromptStyle = "alpaca") -> str:
    """A Jinja template that renders one message of a user to the prompt of training.

    Chat servers tokenize what it renders without special tokens, so it writes those that the
    tokenizer adds to a prompt. The form has no turns: a system message or a second message is an
    error, not text that the model never learned to read. An `input` given to
    `apply_chat_template` takes the form with an input.
    """
    begin, after = _special_text(tokenizer)
    end = ("\n" if style == "alpaca_nl" else "") + after
    task, given = "messages[0]['content']", "input"
    with_input = _as_jinja(begin + PROMPT_WITH_INPUT + end, instruction=task, input=given)
    without = _as_jinja(begin + PROMPT_WITHOUT_INPUT + end, instruction=task)
    return (
        "{%- if messages | length != 1 or messages[0]['role'] != 'user' -%}"
        "{{ raise_exception('this model answers one user message; it knows no system message and "
        "no turns') }}"
        "{%- endif -%}"
        "{%- if input is defined and input -%}{{ " + with_input + " }}"
        "{%- else -%}{{ " + without + " }}{%- endif -%}"
    )


def _special_text(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The text of the special tokens before and after a prompt, which tokenizes to its very ids.

    A LLaMA tokenizer that marks the first word of a text (`prepend_scheme: first`) does so after
    a begin token of its own making, and not after one that the text spells: there a space has to
    stand for the mark, or "Below" becomes "Bel", "ow".
    """
    plain = tokenizer(PROMPT_WITHOUT_INPUT, add_special_tokens=False)["input_ids"]
    ids = tokenizer(PROMPT_WITHOUT_INPUT)["input_ids"]
    count = next(
        (at for at in range(len(ids)) if ids[at : at + len(plain)] == plain), len(ids) - len(plain)
    )
    begin, end = (
        "".join(tokenizer.convert_ids_to_tokens(part))
        for part in (ids[:count], ids[count + len(plain) :])
    )
    for space in ("", " "):
        text = begin + space + PROMPT_WITHOUT_INPUT + end
        if tokenizer(text, add_special_tokens=False)["input_ids"] == ids:
            return begin + space, end
    return begin, end


def _as_jinja(prompt: str, **fields: str) -> str:
    """An expression that joins the pieces of a prompt and the values of its fields."""
    for name, expression in fields.items():
        prompt = prompt.replace("{" + name + "}", f"\0{expression}\0")
    pieces = prompt.split("\0")
    return " ~ ".join(
        piece if place % 2 else json.dumps(piece) for place, piece in enumerate(pieces) if piece
    )

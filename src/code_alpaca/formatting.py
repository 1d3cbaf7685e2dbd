"""The Alpaca prompts: the only place where they exist.

The two strings are an interface shared with every Alpaca-trained model
(https://github.com/tatsu-lab/stanford_alpaca); a changed byte is another model's prompt.
"""

from __future__ import annotations

from typing import Literal

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

"""OSS-Instruct: tasks inspired by fragments of real code, from a dataset or your repository.

After Magicoder (Wei et al. 2023, https://arxiv.org/abs/2312.02120). The fragments are sent to the
teacher; `snippets` leaves out hidden files and files that seem to contain a key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from code_alpaca.core.errors import InputError
from code_alpaca.generation.snippets import MIN_LINES, load_snippets
from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy, prompt_fields

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig

MAX_LINES = 40  # of one fragment
MAX_CHARACTERS = 4000  # of one fragment: it is paid for by the token
NUM_EXAMPLES = 2  # seed tasks that show the form of a task


class OssInstruct(Strategy):
    """Consecutive lines of one file, and two seed tasks that show the form of a task.

    Args:
        snippets: texts of source files, in a fixed order.
    """

    name = "oss_instruct"
    templates = ("oss_instruct", "rules")

    def __init__(self, snippets: Sequence[str] = ()) -> None:
        self.snippets = snippets

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        source = config.snippets
        return cls(load_snippets(source, config.snippets_column) if source else ())

    def validate(self, config: GenerateConfig) -> None:
        super().validate(config)
        if not self.snippets:
            raise InputError(
                "strategy oss_instruct needs snippets: a folder, a file or a dataset of code"
            )

    def identity(self) -> dict[str, str]:
        text = json.dumps(self.snippets)
        return {"snippets_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def ask(self, context: PromptContext) -> Prompt:
        rng = context.rng
        lines = rng.choice(self.snippets).split("\n")
        length = min(len(lines), rng.randint(2 * MIN_LINES, MAX_LINES))
        start = rng.randrange(len(lines) - length + 1)
        while sum(map(len, lines[start : start + length])) > MAX_CHARACTERS:
            length -= 1
        snippet = "\n".join(lines[start : start + length]).strip("\n")
        shown = rng.sample(context.seed_tasks, min(NUM_EXAMPLES, len(context.seed_tasks)))
        text = context.render(
            "oss_instruct",
            count=context.num_tasks,
            snippet=snippet,
            examples=[prompt_fields(task) for task in shown],
            wish=context.labels,
        )
        return Prompt(text, [task.id for task in shown])

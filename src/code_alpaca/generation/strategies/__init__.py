"""Strategies: the ways to request new tasks, by name.

To add one: write a module with a subclass of `Strategy`, list the class in STRATEGIES, and add its
template to `generation/prompts/`. A user's file needs no change here: `strategy: my_file.py:ask`.
"""

from __future__ import annotations

from code_alpaca.generation.strategies.alpaca_2023 import Alpaca2023
from code_alpaca.generation.strategies.base import Prompt as Prompt
from code_alpaca.generation.strategies.base import PromptContext as PromptContext
from code_alpaca.generation.strategies.base import Strategy as Strategy
from code_alpaca.generation.strategies.base import prompt_fields as prompt_fields
from code_alpaca.generation.strategies.evol_instruct import EvolInstruct
from code_alpaca.generation.strategies.oss_instruct import OssInstruct
from code_alpaca.generation.strategies.self_instruct import SelfInstruct
from code_alpaca.generation.strategies.topics import Topics

# A request draws its strategy from a mix in this order: append, and never reorder.
STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls for cls in (EvolInstruct, OssInstruct, Alpaca2023, SelfInstruct, Topics)
}

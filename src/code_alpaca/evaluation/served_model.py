"""Complete prompts with a model that a server of this machine serves for the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from code_alpaca.evaluation.completions import (
    CompletionRequest,
    GenerationSettings,
    SaveCompletion,
)
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.endpoint import EndpointBackend
from code_alpaca.teacher.serving import Demand, serve_model
from code_alpaca.teacher.serving.engines import ServedModel

MAX_PROMPT_TOKENS = 2048  # of a problem


@dataclass(frozen=True, slots=True)
class ServedModelBackend:
    """A server of `config.engine`, which is started only if a completion is missing."""

    served: ServedModel
    config: EvalConfig
    settings: GenerationSettings
    has_responded: bool = False  # as in `EndpointBackend`

    def complete(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        """Start the servers, and complete the requests, `batch_size` at a time."""
        size, num_tokens = self.config.batch_size, MAX_PROMPT_TOKENS + self.settings.max_new_tokens
        demand = Demand(size, num_tokens, neutral_sampling=True)
        logs = self.config.output_dir / "logs"
        with serve_model(self.served, self.config, demand, logs) as urls:
            endpoint = EndpointBackend(
                ",".join(urls), self.served.name, self.settings, size, self.has_responded
            )
            endpoint.complete(requests, save)

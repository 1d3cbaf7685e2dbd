"""Training progress as plain lines, on a terminal and in a log alike."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback


class LineProgress(TrainerCallback):
    """One line for every log of the trainer: step, loss, learning rate, time left."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._started, self._first_step = time.monotonic(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        done = max(1, state.global_step - self._first_step)
        left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        print(
            f"sft       step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.3f}  "
            f"lr {float(logs.get('learning_rate', 0)):.1e}  {left:.0f} s left",
            flush=True,
        )

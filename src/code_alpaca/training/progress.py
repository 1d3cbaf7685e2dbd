"""Training progress as plain lines, on a terminal and in a log alike."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback


def line_progress() -> TrainerCallback:
    """A callback that prints one line for every log: step, loss, learning rate, time left.

    It also has the last step logged, so that the last loss is the last one.
    """
    from transformers import TrainerCallback

    class LineProgress(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started, self.first_step = time.monotonic(), state.global_step

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps:
                control.should_log = True

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any
        ) -> None:
            if not state.is_world_process_zero or "loss" not in logs:
                return
            done = max(1, state.global_step - self.first_step)
            pace = (time.monotonic() - self.started) / done
            loss, rate = float(logs["loss"]), float(logs.get("learning_rate", 0))
            print(
                f"sft       step {state.global_step}/{state.max_steps}  loss {loss:.3f}  "
                f"lr {rate:.1e}  {pace * (state.max_steps - state.global_step):.0f} s left",
                flush=True,
            )

    return LineProgress()

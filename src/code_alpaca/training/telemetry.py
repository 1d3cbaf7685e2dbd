"""What a training tells while it runs: lines on the screen, and the same as metrics.jsonl.

It also stops a training that has nothing to learn any more, since its loss is no number.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core import fs
from code_alpaca.core.errors import Diverged
from code_alpaca.training.activation_memory import GIB

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, TrainerCallback
    from trl import SFTTrainer

METRICS = "metrics.jsonl"
SHOWN = 300  # characters of a batch that broke the training


class Speed:
    """Model FLOPs utilization, from the tokens of a second.

    FLOPs of a token as Chowdhery et al. 2022 count them (PaLM, https://arxiv.org/abs/2204.02311,
    appendix B), against the peak that the maker of the GPU names; None where that is unknown.
    """

    def __init__(self, config: PretrainedConfig, tokens: int, processes: int, *, adapter: bool):
        import torch
        from trl.trainer.utils import compute_flops_per_token, get_peak_flops

        self.processes = processes
        try:
            self.flops_per_token = float(compute_flops_per_token(config, tokens))
        except Exception:  # of an architecture that TRL cannot count
            self.flops_per_token = 0.0
        if adapter:
            self.flops_per_token *= 2 / 3  # frozen weights have no gradients of their own
        self.device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        self.peak = get_peak_flops(self.device, "bfloat16") if self.device else None

    def mfu(self, tokens_per_second: float) -> float | None:
        """The share of the peak, from 0 to 1."""
        if not self.peak or not self.flops_per_token:
            return None
        return self.flops_per_token * tokens_per_second / (self.peak * self.processes)


def peak_memory(on_cpu: bool) -> int:
    """Bytes that this process had at most: of its GPU, or, on a CPU, resident."""
    if not on_cpu:
        import torch

        return torch.cuda.max_memory_reserved()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def telemetry(speed: Speed, vocabulary: int, *, on_cpu: bool) -> TrainerCallback:
    """A callback that prints a line and writes one to metrics.jsonl for every log, and adds what
    it measured to the log: put before those of `report_to`, they report it, too.

    Tokens are those of rows; padding does not count. It has the first and the last step logged.

    Raises:
        Diverged: from training, when the loss is more than twice that of blind guessing.
    """
    from transformers import TrainerCallback

    class Telemetry(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.path = Path(args.output_dir) / METRICS
            self.started, self.first_step = time.monotonic(), state.global_step
            self.last, self.last_tokens = self.started, 0
            if state.is_world_process_zero:
                _forget_after(self.path, state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step >= state.max_steps:
                control.should_log = True

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any
        ) -> None:
            if "loss" not in logs:
                if state.is_world_process_zero and "eval_loss" in logs:
                    self.write(state, logs)
                    self.last = time.monotonic()  # measuring is not training
                    _say(f"step {state.global_step}  eval loss {logs['eval_loss']:.3f}")
                return
            loss, now = float(logs["loss"]), time.monotonic()
            if not math.isfinite(loss) or loss > 2 * math.log(vocabulary):
                raise Diverged(
                    f"the loss is {loss:.3g} at step {state.global_step}, where blind guessing has "
                    f"{math.log(vocabulary):.1f}; lower the learning rate, or look at the rows of "
                    f"the steps before; {self.path} has the losses, the last checkpoint is kept"
                )
            if not state.is_world_process_zero:
                return
            tokens = int(logs.get("num_tokens", 0))
            pace = (tokens - self.last_tokens) / max(now - self.last, 1e-9)
            left = (now - self.started) / max(1, state.global_step - self.first_step)
            told = {
                "tokens_per_second": round(pace, 1),
                "mfu": speed.mfu(pace),
                "memory_gib": round(peak_memory(on_cpu) / GIB, 2),
                "seconds_left": round(left * (state.max_steps - state.global_step)),
            }
            self.last, self.last_tokens = now, tokens
            self.write(state, {**logs, **told})
            # Trackers get this very mapping after us, and have no place for what is not known.
            logs.update({name: value for name, value in told.items() if value is not None})
            mfu = "" if told["mfu"] is None else f"  MFU {told['mfu']:.0%}"
            _say(
                f"step {state.global_step}/{state.max_steps}  loss {loss:.3f}  "
                f"lr {float(logs.get('learning_rate', 0)):.1e}  {pace:,.0f} tokens/s{mfu}  "
                f"{told['memory_gib']:.1f} GiB  {told['seconds_left']} s left"
            )

        def write(self, state: Any, values: dict[str, Any]) -> None:
            line = {"step": state.global_step, "time": round(time.time(), 1), **values}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    return Telemetry()


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that a kill cut off is left out."""
    path = out / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in map(_parsed, lines) if line]


def watched(base: type[SFTTrainer]) -> type[SFTTrainer]:
    """A trainer that stops at the first batch whose loss is no number, and says which it was.

    It also counts the tokens that its process was given, with padding (`slots`) and without, and
    the seconds from the start of the process to the first step.
    """
    import psutil

    class Watched(base):  # type: ignore[misc,valid-type]  # SFTTrainer, which is imported late
        slots = real = 0
        seconds_to_first_step: float | None = None

        def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> torch.Tensor:
            if self.seconds_to_first_step is None:
                self.seconds_to_first_step = time.time() - psutil.Process().create_time()
            ids = inputs["input_ids"]
            self.slots += ids.numel()
            mask = inputs.get("attention_mask")  # None where rows are packed without padding
            self.real += ids.numel() if mask is None else int(mask.sum())
            loss = super().training_step(model, inputs, *rest, **more)
            if not loss.isfinite():
                text = self.processing_class.decode(ids.flatten()[:SHOWN])[:SHOWN]
                raise Diverged(
                    f"the loss of a batch is {loss.item()} after step {self.state.global_step}, "
                    f"in process {self.args.process_index}; it starts with {text!r}. Look at these "
                    "rows, lower the learning rate, or train in bfloat16; the last checkpoint is "
                    "kept"
                )
            return loss

    return Watched


def _forget_after(path: Path, step: int) -> None:
    """Leave out what was logged after the checkpoint that training goes on from."""
    kept = [line for line in read_metrics(path.parent) if line["step"] <= step] if step else []
    fs.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None


def _say(text: str) -> None:
    print(f"sft       {text}", flush=True)

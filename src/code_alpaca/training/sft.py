"""Supervised fine-tuning with TRL's SFTTrainer on tokens and labels of our own making.

Resumes from the last whole checkpoint in `output_dir`, and ends by writing the model and
`run.json`: the configuration, the exact dataset, versions, loss curve and speed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.config import read_yaml, unknown_key
from code_alpaca.dataset.load import load
from code_alpaca.errors import InputError
from code_alpaca.formatting import format_prompt
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.progress import line_progress
from code_alpaca.training.scratch import make_base
from code_alpaca.training.tokens import IGNORED, Counts, tokenize

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import ModelConfig, SFTConfig

SECRETS = ("hub_token", "push_to_hub_token")
# Keys that say where and how loudly, not what is learned: they may differ on a resume.
FREE = (
    "output_dir",
    "logging_dir",
    "run_name",
    "disable_tqdm",
    "report_to",
    "logging_steps",
    "dry_run",
)


def run(argv: Sequence[str]) -> None:
    """Train as `--config FILE.yaml --key value ...` says.

    Raises:
        InputError: an unknown key, a dataset or model that cannot be used.
    """
    _quiet()
    arguments, training, model_config = parse(argv)
    rows, revision = load(
        arguments.dataset_name or "", arguments.dataset_config, arguments.dataset_revision
    )
    out = Path(training.output_dir)
    fingerprint = _fingerprint(arguments, training, model_config, revision)
    if _finished(out, fingerprint):
        _say(training, f"{out} is trained already with this very configuration; nothing to do")
        return
    base = _base_model(arguments, training, model_config, rows)
    tokenizer = _tokenizer(base, model_config)
    dataset, counts = tokenize(
        rows, tokenizer, prompt_style=arguments.prompt_style, max_length=training.max_length
    )
    _say(
        training,
        f"{counts.rows} rows, {counts.tokens} tokens ({counts.learned_tokens} learned), "
        f"{counts.cut} cut at {training.max_length}, {counts.dropped} without an answer left",
    )
    if arguments.dry_run:
        _say(training, "dry run: the first row, then its learned part:")
        _say(training, tokenizer.decode(dataset[0]["input_ids"]))
        learned = [label for label in dataset[0]["labels"] if label != IGNORED]
        _say(training, tokenizer.decode(learned))
        return
    trainer, seconds = _train(training, model_config, base, tokenizer, dataset)
    _save(trainer, arguments, training, model_config, revision, fingerprint, counts, seconds)


def _quiet() -> None:
    """Leave the screen to our own lines: other libraries' bars and notes come by the dozen."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def parse(argv: Sequence[str]) -> tuple[SFTArguments, SFTConfig, ModelConfig]:
    """TRL's own parser over our keys, SFTConfig's and ModelConfig's; unknown keys are refused.

    Raises:
        InputError: naming the key, and the nearest valid one.
    """
    from trl import ModelConfig, SFTConfig, TrlParser

    def refuse(message: str) -> None:
        raise InputError(message)

    kinds = (SFTArguments, SFTConfig, ModelConfig)
    valid = [item.name for kind in kinds for item in dataclasses.fields(kind)]
    words = list(argv)
    # The file's keys first: TRL would complain of some value before it names an unknown key.
    if "--config" in words[:-1]:
        path = Path(words[words.index("--config") + 1])
        for key in read_yaml(path):
            if key not in valid:
                raise InputError(unknown_key(str(key), valid, str(path)))
    parser = TrlParser(kinds, allow_abbrev=False)
    parser.error = refuse  # type: ignore[method-assign]
    try:
        *parsed, left = parser.parse_args_and_config(words, return_remaining_strings=True)
    except (ValueError, ImportError) as error:
        raise InputError(f"bad training config: {error}") from None
    for word in left:
        if word.startswith("--"):
            raise InputError(unknown_key(word[2:].split("=")[0], valid, "command line"))
        raise InputError(f"stray word {word!r} on the command line; options read --key value")
    arguments, training, model_config = parsed
    if not arguments.dataset_name:
        raise InputError("missing key 'dataset_name'; give a dataset folder, file or Hub id")
    if not arguments.from_scratch and not model_config.model_name_or_path:
        raise InputError("missing key 'model_name_or_path'; or set from_scratch: true")
    return arguments, training, model_config


def _base_model(
    arguments: SFTArguments, training: SFTConfig, model_config: ModelConfig, rows: Dataset
) -> str:
    """The model to start from; a scratch one is made once, by the main process."""
    if not arguments.from_scratch:
        return str(model_config.model_name_or_path)
    folder = Path(training.output_dir) / "base"
    with training.main_process_first(desc="scratch base model"):
        if not (folder / "tokenizer_config.json").exists():
            make_base(
                (format_prompt(row["instruction"], row["input"]) + row["output"] for row in rows),
                folder,
                vocab_size=arguments.scratch_vocab_size,
                hidden_size=arguments.scratch_hidden_size,
                layers=arguments.scratch_layers,
                heads=arguments.scratch_heads,
                max_length=training.max_length or 0,
                seed=training.seed,
            )
    return str(folder)


def _tokenizer(base: str, model_config: ModelConfig):
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=model_config.model_revision)
    except (OSError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"cannot load the tokenizer of {base}: {line}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so the loss never sees it
    return tokenizer


def _train(training: SFTConfig, model_config: ModelConfig, base: str, tokenizer, dataset: Dataset):
    """The trained trainer and the seconds that training took."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTTrainer

    dtype = None if model_config.dtype in (None, "auto") else getattr(torch, model_config.dtype)
    model = AutoModelForCausalLM.from_pretrained(
        base,
        revision=model_config.model_revision,
        dtype=dtype or torch.float32,
        attn_implementation=model_config.attn_implementation,
    )
    training.disable_tqdm = True
    trainer = SFTTrainer(
        model=model, args=training, train_dataset=dataset, processing_class=tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(line_progress())
    checkpoint = _last_checkpoint(Path(training.output_dir))
    if checkpoint:
        _say(training, f"going on from {checkpoint}")
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer, time.monotonic() - started


def _last_checkpoint(out: Path) -> str | None:
    """The newest checkpoint that was written to its end."""
    whole = [path for path in out.glob("checkpoint-*") if (path / "trainer_state.json").exists()]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def _save(
    trainer,
    arguments: SFTArguments,
    training: SFTConfig,
    model_config: ModelConfig,
    revision: str,
    fingerprint: str,
    counts: Counts,
    seconds: float,
) -> None:
    """The model, its tokenizer and generation config, and last of all run.json."""
    out = Path(training.output_dir)
    trainer.save_model(str(out))
    if not trainer.is_world_process_zero():
        return
    trainer.model.generation_config.save_pretrained(out)
    (out / "training_args.bin").unlink(missing_ok=True)  # a pickle, and it may hold a token
    (out / "README.md").unlink(missing_ok=True)  # TRL's card names no revision; release writes ours
    losses = [[log["step"], log["loss"]] for log in trainer.state.log_history if "loss" in log]
    base = "from scratch" if arguments.from_scratch else model_config.model_name_or_path
    report = {
        "base_model": base,
        "dataset": {
            "name": arguments.dataset_name,
            "config": arguments.dataset_config,
            "revision": revision,
        },
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "rows": counts.rows,
        "tokens": counts.tokens,
        "counts": dataclasses.asdict(counts),
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "first_loss": losses[0][1] if losses else None,
        "last_loss": losses[-1][1] if losses else None,
        "loss_curve": losses,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(counts.tokens * (trainer.state.epoch or 0) / seconds, 1),
        "processes": training.world_size,
        "config": _plain_config(arguments, training, model_config),
        "fingerprint": fingerprint,
        "versions": {
            name: version(name) for name in ("torch", "transformers", "trl", "accelerate")
        },
    }
    part = out / "run.json.part"
    part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(part, out / "run.json")
    first, last = report["first_loss"], report["last_loss"]
    _say(
        training,
        f"{report['parameters'] / 1e6:.1f}M parameters, "
        f"{report['steps']} steps in {seconds:.0f} s, "
        f"{report['tokens_per_second']:.0f} tokens/s, loss {first:.3f} first, {last:.3f} last",
    )
    _say(training, f"model in {out}")


def _plain_config(
    arguments: SFTArguments, training: SFTConfig, model_config: ModelConfig
) -> dict[str, Any]:
    """What was configured beyond the defaults, as plain JSON, without secrets."""
    defaults = {
        item.name: item.default
        for kind in (training, model_config)
        for item in dataclasses.fields(kind)
    }
    merged = {**model_config.__dict__, **training.to_dict(), **arguments.__dict__}
    return {
        key: value
        for key, value in sorted(merged.items())
        if key not in SECRETS
        and not key.startswith("_")
        and isinstance(value, str | int | float | bool | list | dict | None)
        and (key in arguments.__dict__ or (key in defaults and value != defaults[key]))
    }


def _fingerprint(
    arguments: SFTArguments, training: SFTConfig, model_config: ModelConfig, revision: str
) -> str:
    facts = _plain_config(arguments, training, model_config)
    facts = {key: value for key, value in facts.items() if key not in FREE}
    text = json.dumps([facts, revision], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _finished(out: Path, fingerprint: str) -> bool:
    """Whether this very training is done.

    Raises:
        InputError: `output_dir` holds the result of another one; it is not overwritten.
    """
    path = out / "run.json"
    if not path.exists():
        return False
    if json.loads(path.read_text(encoding="utf-8")).get("fingerprint") == fingerprint:
        return True
    raise InputError(
        f"{out} holds a model of another configuration or dataset (see its run.json); "
        "use another output_dir, or delete it"
    )


def _say(training: SFTConfig, text: str) -> None:
    if training.process_index == 0:
        print(f"sft       {text}", flush=True)

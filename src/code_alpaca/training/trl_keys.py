"""Roles of the config keys that TRL defines and sft takes."""

from __future__ import annotations

from code_alpaca.core.key_roles import Role, Roles

_RECORDED = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "learning_rate", "lora_alpha", "lora_dropout",
    "lora_r", "lora_target_modules", "lr_scheduler_type", "max_grad_norm", "max_length",
    "num_train_epochs", "optim", "packing", "per_device_train_batch_size", "seed", "warmup_steps",
    "weight_decay",
)  # fmt: skip
# Filled in by transformers and accelerate.
_DERIVED = (
    "accelerator_config", "dataloader_pin_memory", "deepspeed", "eos_token",
    "gradient_checkpointing", "pad_token",
)  # fmt: skip
_FREE = (
    "logging_dir", "project", "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id",
    "use_liger_kernel",
)  # fmt: skip
_OFF_CARD = (
    "logging_first_step", "model_name_or_path", "model_revision", "save_steps", "save_strategy",
    "save_total_limit",
)  # fmt: skip
TRL_KEYS: Roles = {
    **dict.fromkeys(_RECORDED, (Role.RECORDED,)),
    **dict.fromkeys(_DERIVED, (Role.DERIVED,)),
    **dict.fromkeys(_FREE, (Role.FREE,)),
    **dict.fromkeys(_OFF_CARD, (Role.OFF_CARD,)),
    **dict.fromkeys(("hub_token", "push_to_hub_token"), (Role.SECRET,)),
    "base_sha256": (Role.DERIVED,),  # not TRL's: sft records the weights that it started from
    "disable_tqdm": (Role.FREE, Role.DERIVED),
    "logging_steps": (Role.FREE, Role.OFF_CARD),
    "output_dir": (Role.FREE, Role.LOCAL),
    "report_to": (Role.FREE, Role.OFF_CARD),
    "run_name": (Role.FREE, Role.OFF_CARD),
}

"""Find a model to load: a local folder, or a commit of the Hub resolved with one request.

Libraries that load models request every file from the Hub and retry each for half a minute. Here
one request returns the commit to download, and then a local folder is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from code_alpaca.core import console
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import file_sha256, weights_sha256
from code_alpaca.core.records import RecordFormatError, RunRecord
from code_alpaca.hub.lookup import HubReadError, HubUnreachable, look_up, read_errors

CONFIG_FILES = ("config.json", "adapter_config.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
# Files that from_pretrained reads; a repository also contains images, logs and other formats.
MODEL_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
WEIGHT_SUFFIXES = (".safetensors", ".bin")
# Files of a model folder that no output of the model depends on.
RECORD_FILES = {"run.json", "sft_config.json", "trainer_state.json", "training_args.bin",
                "results.json", "requirements.txt", "optimizer.bin", "scheduler.bin"}  # fmt: skip
Fingerprint = dict[str, str]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model to load."""

    name: str
    folder: Path
    commit: str | None = None  # of the Hub, if it was downloaded
    base: ModelSource | None = None  # of an adapter

    def fingerprint(self) -> Fingerprint:
        """Return the commit of a Hub model, or the hashes of a folder's files.

        Only of files that the output depends on: configs, tokenizer, chat template, weights. For
        an adapter also those of its base model, under `base/`.
        """
        hashes = {"commit": self.commit} if self.commit else _hash_files(self.folder)
        if self.base:
            hashes |= {f"base/{key}": value for key, value in self.base.fingerprint().items()}
        return hashes

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of the tokenizer: an adapter's own, or that of its base model."""
        own = self.base is None or any(self.folder.glob("tokenizer*"))
        return self.folder if own else self.base.folder

    def has_chat_template(self) -> bool:
        """Return whether the tokenizer has a default chat template, without loading it."""
        folder = self.tokenizer_folder
        if (folder / "chat_template.jinja").is_file():
            return True
        config = _read_json(folder / TOKENIZER_CONFIG) or {}
        templates = config.get("chat_template")
        if isinstance(templates, list):  # of several names
            return "default" in [item.get("name") for item in templates if isinstance(item, dict)]
        return bool(templates)


def find_model(name: str, revision: str | None = None) -> ModelSource:
    """Return the local folder of a model; a Hub model is downloaded at the commit of `revision`.

    Without network, or with HF_HUB_OFFLINE, the Hub cache is used.
    """
    source = _find(name, revision)
    adapter = _adapter_config(source.folder)
    if adapter is None:
        return source
    base = str(adapter.get("base_model_name_or_path") or "")
    if not base:
        raise InputError(f"the adapter {name} names no base model in adapter_config.json")
    return replace(source, base=_find(base, adapter.get("revision")))


def refuse_wrong_path(name: str) -> None:
    """Refuse a file, a folder without a model, and a missing folder that cannot be a Hub id."""
    folder = Path(name)
    if not folder.exists():
        _refuse_if_no_hub_id(name)
    elif not any((folder / config).is_file() for config in CONFIG_FILES):
        fact = "the folder contains no config.json" if folder.is_dir() else "it is a file"
        raise InputError(
            f"cannot load model {name}: {fact}; set a folder that sft or save_pretrained wrote, or "
            "a Hub id"
        )


def resolve_commit(name: str, revision: str | None = None) -> str | None:
    """Return the commit of a revision of a Hub model, or None for a local folder.

    Nothing is downloaded. If the Hub is unreachable, this is the cached commit, and from then on
    this process uses the cache only: libraries would retry every file for half a minute.
    """
    refuse_wrong_path(name)
    if Path(name).exists():
        return None
    try:
        with _refusals(name, revision):
            return str(look_up(name, "model", revision).sha)
    except HubUnreachable as error:
        reason = str(error)
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"  # for child processes
    constants.HF_HUB_OFFLINE = True  # was read at import
    return _find_cached(name, revision, reason).name  # .../snapshots/COMMIT


def read_run_record(folder: Path) -> RunRecord | None:
    """Return the run.json that sft wrote next to the weights; None for any other model.

    The run.json of another tool is ignored with a warning; a damaged one is refused.
    """
    if not (folder / RunRecord.FILE).exists():
        return None
    try:
        return RunRecord.load(folder)
    except RecordFormatError as error:
        console.warning(f"run.json of the model is ignored: {error}")
        return None


def _find(name: str, revision: str | None) -> ModelSource:
    refuse_wrong_path(name)
    if not Path(name).exists():
        return _from_hub(name, revision)
    if revision:
        raise InputError(
            f"{name} is a local folder, which has no revision {revision}; leave revision out"
        )
    return ModelSource(name, Path(name))


def _refuse_if_no_hub_id(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(
            f"cannot load model {name}: no such folder; set a model folder or a Hub id"
        )
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise InputError(
            f"cannot load model {name}: neither a folder nor a Hub id (ORG/NAME)"
        ) from None


def _from_hub(name: str, revision: str | None) -> ModelSource:
    from huggingface_hub import snapshot_download

    try:
        with _refusals(name, revision), read_errors():
            info = look_up(name, "model", revision)
            files = [sibling.rfilename for sibling in info.siblings or ()]
            folder = snapshot_download(name, revision=info.sha, allow_patterns=_select_files(files))
            return ModelSource(name, Path(folder), info.sha)
    except HubUnreachable as error:
        reason = str(error)
    cached = _find_cached(name, revision, reason)
    return ModelSource(name, cached, cached.name)  # .../snapshots/COMMIT


@contextmanager
def _refusals(name: str, revision: str | None) -> Iterator[None]:
    """Raise what the Hub refuses as InputError; HubUnreachable is not a refusal."""
    try:
        yield
    except HubUnreachable:
        raise
    except HubReadError as error:
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"cannot load model {name}: no such folder, and the Hub refuses it{at} ({error}); "
            "check the name, and your access with `hf auth whoami`"
        ) from None


def _find_cached(name: str, revision: str | None, reason: str) -> Path:
    """Return the snapshot of a revision in the Hub cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise InputError(
            f"cannot load model {name}: no such folder, and the Hub is unreachable ({reason}); "
            "check the path, or the network"
        ) from None


def _select_files(files: list[str]) -> list[str]:
    """Return the files to download: pickled weights only if there are no safetensors."""
    top = [file for file in files if "/" not in file]
    safetensors, pickles = WEIGHT_SUFFIXES
    weights = safetensors if any(file.endswith(safetensors) for file in top) else pickles
    suffixes = (*MODEL_SUFFIXES, weights)
    names = [file for file in top if file.endswith(suffixes) and file not in RECORD_FILES]
    return [*names, "additional_chat_templates/*", "run.json"]


def _hash_files(folder: Path) -> Fingerprint:
    """Return the hash of every file of a folder that from_pretrained may read."""
    weights = weights_sha256(str(folder))
    hashes = {"weights": weights} if weights else {}
    suffixes = MODEL_SUFFIXES if weights else (*MODEL_SUFFIXES, *WEIGHT_SUFFIXES)
    for path in sorted([*folder.glob("*"), *folder.glob("additional_chat_templates/*")]):
        if path.suffix in suffixes and path.name not in RECORD_FILES and path.is_file():
            hashes[path.relative_to(folder).as_posix()] = file_sha256(path)
    return hashes


def _adapter_config(folder: Path) -> dict[str, Any] | None:
    """Return the adapter_config.json of a folder with an adapter and without a full model."""
    path = folder / "adapter_config.json"
    return None if (folder / "config.json").is_file() else _read_json(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a file; None if there is no such file."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error_message(error)})") from None
    return values if isinstance(values, dict) else {}

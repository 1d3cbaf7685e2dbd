"""Find a model: a local folder first, then a commit of the Hub by one request without retries.

Libraries that load models ask the Hub for every file and retry each request for half a minute.
Here one request decides: what it resolves is downloaded at that commit, and everything after
that reads a local folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import file_sha256, weights_sha256

TIMEOUT_S = 10.0
CONFIG_FILES = ("config.json", "adapter_config.json")
# The files that from_pretrained reads; a repository also holds pictures, logs and other formats.
MODEL_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
WEIGHT_SUFFIXES = (".safetensors", ".bin")
# Files of a model folder that no answer depends on.
RECORD_FILES = {"run.json", "sft_config.json", "trainer_state.json", "training_args.bin",
                "results.json", "requirements.txt", "optimizer.bin", "scheduler.bin"}  # fmt: skip
Fingerprint = dict[str, str]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model to load: `folder` is local; `commit` is set where it came from the Hub."""

    name: str
    folder: Path
    commit: str | None = None
    base: ModelSource | None = None  # of an adapter

    def fingerprint(self) -> Fingerprint:
        """Identify everything that an answer of the model depends on.

        Returns:
            The commit of a Hub model; of a folder the hash of each file that shapes an answer:
            config, generation config, tokenizer, chat template, weights. Of an adapter also its
            base model's, under `base/`.
        """
        found = {"commit": self.commit} if self.commit else _hashes(self.folder)
        if self.base:
            found |= {f"base/{key}": value for key, value in self.base.fingerprint().items()}
        return found


def find_model(name: str, revision: str | None = None) -> ModelSource:
    """Find the local folder of a model, downloading a Hub model at the commit of `revision`.

    Without network, or under HF_HUB_OFFLINE, what the Hub cache holds is used.

    Args:
        name: a model folder or a Hub id.
        revision: branch, tag or commit of a Hub id.

    Raises:
        InputError: there is no such model, or the Hub cannot be reached and the cache lacks it.
    """
    source = _find(name, revision)
    base = _adapter_config(source.folder)
    if base is None:
        return source
    base_name = str(base.get("base_model_name_or_path") or "")
    if not base_name:
        raise InputError(f"the adapter {name} names no base model in adapter_config.json")
    found = _find(base_name, base.get("revision"))
    return ModelSource(source.name, source.folder, source.commit, found)


def resolve_commit(name: str, revision: str | None = None) -> str | None:
    """Resolve the commit that a revision of a Hub model means now; nothing is downloaded.

    Where the Hub cannot be reached, this is the cached commit, and this process reads the cache
    alone from then on: each file that a library asks for would cost half a minute of retries.

    Args:
        name: a model folder or a Hub id.
        revision: branch, tag or commit of a Hub id.

    Returns:
        None for a local folder, which has no commit.

    Raises:
        InputError: there is no such model, or the Hub cannot be reached and the cache lacks it.
    """
    from huggingface_hub import HfApi

    if Path(name).exists():
        return None
    _refuse_path(name)
    try:
        return str(HfApi().model_info(name, revision=revision, timeout=TIMEOUT_S).sha)
    except Exception as error:
        reason = _why_unreachable(name, revision, error)
    _stay_offline()
    return _cached(name, revision, reason).name  # .../snapshots/COMMIT


def read_run_json(folder: Path) -> dict[str, Any]:
    """Read the run.json that sft wrote beside the weights; empty for any other model.

    Raises:
        InputError: it is broken.
    """
    path = folder / "run.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read {path} ({error_message(error)}); restore the file that sft wrote"
        ) from None
    return found if isinstance(found, dict) else {}


def _find(name: str, revision: str | None) -> ModelSource:
    folder = Path(name)
    if folder.exists():
        if revision:
            raise InputError(
                f"{name} is a local folder, which has no revision {revision}; leave revision out"
            )
        if not any((folder / config).is_file() for config in CONFIG_FILES):
            raise InputError(
                f"cannot load model {name}: it is no model folder, for it holds no config.json; "
                "give a folder that sft or save_pretrained wrote, or a Hub id"
            )
        return ModelSource(name, folder)
    _refuse_path(name)
    return _from_hub(name, revision)


def _refuse_path(name: str) -> None:
    """Refuse a name that can only be a path, where no folder exists."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(
            f"cannot load model {name}: no such folder; give a model folder or a Hub id"
        )


def _from_hub(name: str, revision: str | None) -> ModelSource:
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(name, revision=revision, timeout=TIMEOUT_S)
        files = [sibling.rfilename for sibling in info.siblings or ()]
        folder = snapshot_download(name, revision=info.sha, allow_patterns=_wanted(files))
        return ModelSource(name, Path(folder), info.sha)
    except Exception as error:
        reason = _why_unreachable(name, revision, error)
    cached = _cached(name, revision, reason)
    return ModelSource(name, cached, cached.name)  # .../snapshots/COMMIT


def _why_unreachable(name: str, revision: str | None, error: Exception) -> str:
    """Say why the Hub cannot be reached; where it answered and refuses, raise that in one line."""
    import httpx2
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    if isinstance(error, HFValidationError):
        raise InputError(
            f"cannot load model {name}: no such folder, and not a Hub id (ORG/NAME)"
        ) from None
    if not isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError | httpx2.HTTPError):
        raise error
    if isinstance(error, HfHubHTTPError) and not _is_unavailable(error):
        at = f" at revision {revision}" if revision else ""
        raise InputError(
            f"cannot load model {name}: no such folder, and the Hub refuses it{at} "
            f"({error_message(error)}); check the name, or your access with `hf auth whoami`"
        ) from None
    return error_message(error) or type(error).__name__


def _cached(name: str, revision: str | None, reason: str) -> Path:
    """The snapshot of a revision in the Hub cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise InputError(
            f"cannot load model {name}: no such folder, and the Hub cannot be reached ({reason}); "
            "check the path, or the network"
        ) from None


def _stay_offline() -> None:
    """Let this process and its children read the Hub cache alone, without asking the Hub again."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def _is_unavailable(error: Any) -> bool:
    status = error.response.status_code if error.response is not None else 503
    return status in (408, 429) or status >= 500


def _wanted(files: list[str]) -> list[str]:
    """The files to download: pickled weights only where there are no safetensors."""
    top = [file for file in files if "/" not in file]
    kind = next(
        (kind for kind in WEIGHT_SUFFIXES if any(file.endswith(kind) for file in top)),
        WEIGHT_SUFFIXES[0],
    )
    names = [
        file for file in top if file.endswith((*MODEL_SUFFIXES, kind)) and file not in RECORD_FILES
    ]
    return [*names, "additional_chat_templates/*", "run.json"]


def _hashes(folder: Path) -> Fingerprint:
    """The hash of every file of a folder that from_pretrained may read."""
    weights = weights_sha256(str(folder))
    found = {"weights": weights} if weights else {}
    kinds = MODEL_SUFFIXES if weights else (*MODEL_SUFFIXES, *WEIGHT_SUFFIXES)
    paths = [*folder.glob("*"), *folder.glob("additional_chat_templates/*")]
    for path in sorted(paths):
        if path.suffix in kinds and path.name not in RECORD_FILES and path.is_file():
            found[path.relative_to(folder).as_posix()] = file_sha256(path)
    return found


def _adapter_config(folder: Path) -> dict[str, Any] | None:
    """The adapter_config.json of a folder that holds an adapter and no whole model."""
    path = folder / "adapter_config.json"
    if (folder / "config.json").is_file() or not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error_message(error)})") from None
    return found if isinstance(found, dict) else {}

"""Look up a revision on the Hub with one request; an unreachable Hub differs from a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from code_alpaca.core.errors import error_message
from code_alpaca.hub.errors import http_library, is_transient

TIMEOUT_S = 10.0


class HubReadError(Exception):
    """The Hub refuses a read: no such repository, revision or file, or no access to it."""


class HubUnreachable(HubReadError):
    """The Hub did not answer: no network, HF_HUB_OFFLINE, or a server error; a cache may help."""


def look_up(repo_id: str, repo_type: Literal["dataset", "model"], revision: str | None) -> Any:
    """Return the Hub's information about a revision: its commit `sha`, its files (`siblings`)."""
    from huggingface_hub import HfApi

    with read_errors():
        return HfApi().repo_info(repo_id, repo_type=repo_type, revision=revision, timeout=TIMEOUT_S)


def find_dataset_file(name: str, file: str, revision: str | None) -> Path | None:
    """Return a file of a dataset folder, or of a Hub dataset from the cache or by a download.

    None if there is no such file, or the Hub does not give it.
    """
    folder = Path(name)
    if folder.exists():
        return folder / file if (folder / file).is_file() else None
    from huggingface_hub import hf_hub_download

    try:
        with read_errors():
            return Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))
    except HubReadError:
        return None


@contextmanager
def read_errors() -> Iterator[None]:
    """Raise the errors of reading from the Hub as HubReadError, others unchanged."""
    from huggingface_hub import errors

    offline = (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError)
    try:
        yield
    except errors.HFValidationError:
        raise HubReadError("not a Hub id (ORG/NAME)") from None
    except (*offline, http_library().HTTPError) as error:
        answered = isinstance(error, errors.HfHubHTTPError) and error.response is not None
        unreachable = isinstance(error, offline) or not answered or is_transient(error)
        kind = HubUnreachable if unreachable else HubReadError
        raise kind(error_message(error) or type(error).__name__) from None

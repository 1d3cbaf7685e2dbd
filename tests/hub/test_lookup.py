"""An unreachable Hub, for which a cache may help, differs from one that refuses a read."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from code_alpaca.hub.errors import http_library
from code_alpaca.hub.lookup import HubReadError, HubUnreachable, look_up, read_errors

http = http_library()


def http_error(status: int) -> HfHubHTTPError:
    request = http.Request("GET", "http://127.0.0.1/api/models/org/name")
    return HfHubHTTPError("an error", response=http.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (http.ConnectError("refused"), HubUnreachable),
        (http.ReadTimeout("too slow"), HubUnreachable),
        (OfflineModeIsEnabled("HF_HUB_OFFLINE is set"), HubUnreachable),
        (LocalEntryNotFoundError("not in the cache"), HubUnreachable),
        (http_error(503), HubUnreachable),
        (http_error(401), HubReadError),
        (http_error(404), HubReadError),
        (HFValidationError("not a repo id"), HubReadError),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_unreachable_hub_differs_from_a_refusal(error, kind):
    with pytest.raises(HubReadError) as caught, read_errors():
        raise error
    assert type(caught.value) is kind and "\n" not in str(caught.value)


def test_other_errors_are_not_changed():
    with pytest.raises(KeyError), read_errors():
        raise KeyError("a bug")


def test_a_lookup_is_not_sent_if_the_hub_is_offline():
    """The tests run with HF_HUB_OFFLINE."""
    with pytest.raises(HubUnreachable):
        look_up("org/name", "dataset", None)

"""The permissions of a token are checked with its `whoami`, before anything is written."""

from __future__ import annotations

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.hub.permissions import require_create_permission

TEAM = {"name": "team", "roleInOrg": "write"}


def whoami(*orgs, **token):
    return {"name": "ann", "orgs": list(orgs), "auth": {"accessToken": {"role": "write", **token}}}


def fine_grained(namespace, *permissions):
    scope = {"entity": {"type": "org", "name": namespace}, "permissions": list(permissions)}
    return {"role": "fineGrained", "fineGrained": {"scoped": [scope]}}


@pytest.mark.parametrize(
    ("token", "repo"),
    [
        (whoami(), "ann/x"),
        (whoami(), "Ann/x"),
        (whoami(TEAM), "team/x"),
        (whoami({"name": "team"}), "team/x"),  # a Hub that returns no role
        ({"name": "ann"}, "team/x"),  # nor organizations
        (whoami(TEAM, **fine_grained("team", "repo.write")), "team/x"),
    ],
)
def test_a_token_with_write_access_may_create_the_repository(token, repo):
    require_create_permission(token, repo)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (whoami(), "ann is not a member of team"),
        (whoami({"name": "team", "roleInOrg": "read"}), "ann has read access only in team"),
        (whoami(TEAM, **fine_grained("ann", "repo.write")), "has no write access to team"),
        (whoami(TEAM, **fine_grained("team", "repo.content.read")), "has no write access to team"),
    ],
)
def test_a_token_without_write_access_is_refused_with_the_reason(token, reason):
    with pytest.raises(InputError, match=reason):
        require_create_permission(token, "team/x")

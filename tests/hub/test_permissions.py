"""What a token may do is known from its own `whoami`, before anything is written."""

from __future__ import annotations

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.hub.permissions import require_create_permission

TEAM = {"name": "team", "roleInOrg": "write"}


def who(*orgs, **token):
    return {"name": "ann", "orgs": list(orgs), "auth": {"accessToken": {"role": "write", **token}}}


def fine(namespace, *permissions):
    scope = {"entity": {"type": "org", "name": namespace}, "permissions": list(permissions)}
    return {"role": "fineGrained", "fineGrained": {"scoped": [scope]}}


@pytest.mark.parametrize(
    ("token", "repo"),
    [
        (who(), "ann/x"),
        (who(), "Ann/x"),
        (who(TEAM), "team/x"),
        (who({"name": "team"}), "team/x"),  # a Hub that does not say which role
        ({"name": "ann"}, "team/x"),  # nor which organizations
        (who(TEAM, **fine("team", "repo.write")), "team/x"),
    ],
)
def test_a_token_that_may_make_a_repository(token, repo):
    require_create_permission(token, repo)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (who(), "ann is no member of team"),
        (who({"name": "team", "roleInOrg": "read"}), "ann may only read in team"),
        (who(TEAM, **fine("ann", "repo.write")), "does not cover writing in team"),
        (who(TEAM, **fine("team", "repo.content.read")), "does not cover writing in team"),
    ],
)
def test_a_token_that_may_not(token, reason):
    with pytest.raises(InputError, match=reason):
        require_create_permission(token, "team/x")

"""Check what a token may do on the Hub, from the Hub's own `whoami`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.hub.errors import write_token_advice

READ_ROLES = ("read", "no_access")  # roles in an organization that cannot create a repository


def require_create_permission(whoami: Mapping[str, Any], repo_id: str) -> None:
    """Refuse to create the repository ORG/NAME if the Hub's `whoami` does not allow it."""
    namespace, user = repo_id.split("/")[0], str(whoami.get("name"))
    # A self-hosted Hub may not list organizations.
    if namespace.lower() != user.lower() and whoami.get("orgs") is not None:
        organizations = {str(org.get("name")).lower(): org for org in whoami.get("orgs") or []}
        org = organizations.get(namespace.lower())
        if org is None:
            names = [user, *(str(org.get("name")) for org in organizations.values())]
            raise InputError(
                f"{user} is not a member of {namespace} and cannot create {repo_id}; use a name "
                f"under {'/ or '.join(names)}/, or ask {namespace} for write access"
            )
        if org.get("roleInOrg") in READ_ROLES:
            raise InputError(
                f"{user} has read access only in {namespace} and cannot create {repo_id}; ask "
                f"{namespace} for write access"
            )
    if not _is_in_scope(whoami, namespace):
        raise InputError(
            f"the fine-grained token of {user} has no write access to {namespace}; "
            f"{write_token_advice()} there, then rerun the command"
        )


def _is_in_scope(whoami: Mapping[str, Any], namespace: str) -> bool:
    """Return whether the token's scopes, if it lists any, include writing to a namespace."""
    token = (whoami.get("auth") or {}).get("accessToken") or {}
    scopes = token.get("fineGrained")
    scoped = scopes.get("scoped") if isinstance(scopes, dict) else None
    if token.get("role") != "fineGrained" or scoped is None:
        return True
    return any(
        str((scope.get("entity") or {}).get("name")).lower() == namespace.lower()
        and "repo.write" in (scope.get("permissions") or [])
        for scope in scoped
    )

"""What a token may do on the Hub, as far as its own `whoami` says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.hub.errors import WRITE_TOKEN

READ_ROLES = ("read", "no_access")  # roles in an organization that cannot make a repository


def require_create_permission(who: Mapping[str, Any], repo_id: str) -> None:
    """Refuse a repository that the owner of the token may not make.

    Args:
        who: what the Hub's `whoami` answers.
        repo_id: ORG/NAME of a repository that does not exist.

    Raises:
        InputError: naming the namespace and who asked.
    """
    namespace, name = repo_id.split("/")[0], str(who.get("name"))
    # A Hub of somebody's own may not say which organizations there are.
    if namespace.lower() != name.lower() and who.get("orgs") is not None:
        organizations = {str(org.get("name")).lower(): org for org in who.get("orgs") or []}
        org = organizations.get(namespace.lower())
        if org is None:
            raise InputError(
                f"{name} is no member of {namespace} and cannot make {repo_id} there; give a name "
                f"under {_places(who)}, or ask {namespace} for write access"
            )
        if org.get("roleInOrg") in READ_ROLES:
            raise InputError(
                f"{name} may only read in {namespace} and cannot make {repo_id}; ask {namespace} "
                "for write access"
            )
    if not _in_scope(who, namespace):
        raise InputError(
            f"the fine-grained token of {name} does not cover writing in {namespace}; "
            f"{WRITE_TOKEN} there, then run it again"
        )


def _places(who: Mapping[str, Any]) -> str:
    names = [who.get("name"), *(org.get("name") for org in who.get("orgs") or [])]
    return " or ".join(f"{name}/" for name in names if name)


def _in_scope(who: Mapping[str, Any], namespace: str) -> bool:
    """Whether a token, where it names what it may do, may write in this namespace."""
    token = (who.get("auth") or {}).get("accessToken") or {}
    fine = token.get("fineGrained")
    if token.get("role") != "fineGrained" or not isinstance(fine, dict) or "scoped" not in fine:
        return True
    return any(
        str((scope.get("entity") or {}).get("name")).lower() == namespace.lower()
        and "repo.write" in (scope.get("permissions") or [])
        for scope in fine["scoped"]
    )

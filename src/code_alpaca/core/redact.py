"""Find and mask secrets in URLs: user info, and query parameters that may be a key.

A URL in a config is written to config.yaml, the ledger and the published manifest, so a secret in
it is refused (`find_secret`). Text that is only printed or published is masked (`redact`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

# Query parameters that are not secret. Any other one may be a key: there are too many names for
# keys (api_key, sig, X-Amz-Signature, subscription-key, ...) to list those.
PLAIN_PARAMETERS = {
    "api-version", "api_version", "version", "model", "deployment", "region", "project", "alt",
    "download", "raw", "ref", "revision", "split", "config", "page", "lang", "v",
}  # fmt: skip
SCHEME = r"[a-zA-Z][a-zA-Z0-9+.-]*://"
# Ends at a space or quote, or at the comma before the next URL.
URL = re.compile(rf"{SCHEME}(?:(?!,{SCHEME})[^\s'\"<>`])+")
USER_INFO = re.compile(r"^(?P<scheme>[^:/?#]+://)(?P<user>[^/?#]*)@")
URL_PARTS = re.compile(r"([^?#;]*)([?#;]?)(.*)", re.DOTALL)  # up to the query, its mark, the query
PARAMETER = re.compile(r"(?P<name>[^?&;#=]+)(?:=(?P<value>[^&;#]*))?")
MAX_PLAIN_CHARACTERS = 15  # a longer word without "=" is treated as a key
# Keys of well-known services, which some gateways accept in the path.
KNOWN_KEY = re.compile(r"(?<![A-Za-z0-9])(sk|hf|gsk|xai|pk|AIza)[-_A-Za-z][A-Za-z0-9_-]{15,}")
MASK = "***"


def find_secret(text: str) -> str:
    """Return the name of a possible secret in the URLs of a text, or ""."""
    for url in URL.findall(text):
        if USER_INFO.match(url):
            return "user info (NAME:PASSWORD@)"
        if names := _secret_parameters(url):
            return f"the query parameter {names[0]!r}"
        if KNOWN_KEY.search(url):
            return "what looks like a key"
    return ""


def redact(value: Any) -> Any:
    """Return a text, or every text in lists and dicts, with the secrets in its URLs masked."""
    return map_texts(lambda text: URL.sub(lambda found: _mask(found[0]), text), value)


def map_texts(change: Callable[[str], str], value: Any) -> Any:
    """Apply a function to a text, or to every text in lists and dicts, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {map_texts(change, key): map_texts(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_texts(change, item) for item in value]
    return value


def _mask(url: str) -> str:
    url = USER_INFO.sub(rf"\g<scheme>{MASK}@", url)
    base, mark, query = URL_PARTS.fullmatch(url).groups()
    query = PARAMETER.sub(_mask_parameter, query)
    return KNOWN_KEY.sub(MASK, f"{base}{mark}{query}")


def _mask_parameter(found: re.Match[str]) -> str:
    if not _may_be_secret(found):
        return found[0]
    return f"{found['name']}={MASK}" if found["value"] else MASK


def _secret_parameters(url: str) -> list[str]:
    """Return the names of parameters that may be a key; mask a key without a name."""
    return [
        found["name"] if found["value"] else MASK
        for found in PARAMETER.finditer(URL_PARTS.fullmatch(url)[3])
        if _may_be_secret(found)
    ]


def _may_be_secret(found: re.Match[str]) -> bool:
    if found["value"]:
        return unquote(found["name"]).strip().lower() not in PLAIN_PARAMETERS
    return len(found["name"]) > MAX_PLAIN_CHARACTERS

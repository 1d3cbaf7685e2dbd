"""Recognize Azure OpenAI, whose URLs, keys and API versions differ from OpenAI's.

A model is a *deployment* in the path, requests need `api-version`, and the key is in another
header: the OpenAI SDK's Azure client does all three. Azure's newer `/openai/v1` is OpenAI's API.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    import openai

DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)")
NEW_API = re.compile(r"/openai/v1/?$")


def find_azure_url(base_url: str | None) -> str | None:
    """Return the URL if it is one of Azure; without a URL or key of OpenAI, that of Azure.

    `AZURE_OPENAI_ENDPOINT` names a host of Azure that has another name, such as a gateway.
    """
    endpoint = os.environ.get("AZURE_OPENAI_ENDPOINT")
    if base_url is None:
        return None if os.environ.get("OPENAI_API_KEY") else endpoint
    host = urlsplit(base_url).netloc
    if host.endswith(".azure.com") or (endpoint and host == urlsplit(endpoint).netloc):
        return base_url
    return None


def get_azure_key() -> str | None:
    """Return the API key for Azure, also a token of Entra ID."""
    names = ("AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_KEY")
    return next(filter(None, map(os.environ.get, names)), None)


def create_azure_client(url: str, key: str, **options: Any) -> openai.AsyncOpenAI:
    """Create a client of a resource of Azure; the model of a request is its deployment.

    Raises:
        InputError: there is no API version.
    """
    import openai  # takes half a second, which `--help` does not need

    parts = urlsplit(url)
    if NEW_API.search(parts.path):
        return openai.AsyncOpenAI(base_url=url, api_key=key, **options)
    version = (parse_qs(parts.query).get("api-version") or [None])[0]
    version = version or os.environ.get("OPENAI_API_VERSION")
    if not version:
        raise InputError(
            f"{parts.netloc} is Azure and needs an API version; set OPENAI_API_VERSION, or add "
            "?api-version=VERSION to the URL"
        )
    deployment = DEPLOYMENT.search(parts.path)
    is_token = key == os.environ.get("AZURE_OPENAI_AD_TOKEN")
    return openai.AsyncAzureOpenAI(
        azure_endpoint=f"{parts.scheme}://{parts.netloc}",
        azure_deployment=deployment[1] if deployment else None,
        api_version=version,
        **({"azure_ad_token": key} if is_token else {"api_key": key}),
        **options,
    )

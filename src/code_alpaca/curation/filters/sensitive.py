"""Filters of what must not be published: keys and tokens, personal data, licensed code."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any

from code_alpaca.core.row_formats import ALPACA
from code_alpaca.core.schema import Example

TOKEN = re.compile(r"\b(?P<hub>hf_[A-Za-z0-9]{30,})\b|\bsk-(proj-|ant-)?[A-Za-z0-9_-]{32,}")
EMAIL = re.compile(r"(?<![\w.+-])(?P<name>[\w.+-]+)@(?P<domain>[\w-]+(\.[\w-]+)*\.[a-zA-Z]{2,})\b")
EXAMPLE_DOMAIN = re.compile(
    r"(?i)(^|\.)((example|test|sample|domain|your-?\w*|my-?\w*|company|email|mail|site|website|host|"
    r"abc|xyz|foo|bar|acme)\.\w+|\w+\.(example|test|invalid|local|localhost))$"
)
EXAMPLE_NAME = re.compile(
    r"(?i)((john|jane|joe|alice|bob|foo|bar|test|user|name|example|sample|abc|xyz|info|admin|support|"
    r"contact|hello|noreply|no-reply|sender|recipient|receiver|from|to|you|your|my|me|someone|"
    r"e?mail|username|first|last)([._+-]?(doe|smith|name|user|mail|email))?\d*)$"
)
MAIL_PROVIDER = re.compile(
    r"(?i)(gmail|googlemail|yahoo|ymail|hotmail|outlook|live|msn|icloud|aol|protonmail|proton|gmx|mail|"
    r"zoho|yandex|qq|163)\.[a-z.]{2,6}$"
)
SHORT_NAME = re.compile(r"[A-Za-z]{1,12}\d{0,3}$")
ADDRESS_TASK = (
    r"\b(?:valid\w*|invalid|regex\w*|regular expressions?|extract\w*|pars\w+|match\w*|mask\w*|"
    r"check\w*|detect\w*|find\w*|domains?|count\w*|sort\w*|duplicates?|format|pattern)\b"
)
ABOUT_ADDRESSES = re.compile(
    rf"(?is){ADDRESS_TASK}.{{0,80}}\be-?mails?\b|\be-?mails?\b.{{0,80}}{ADDRESS_TASK}"
)
LICENCE = re.compile(
    r"(?im)SPDX-License-Identifier|Licensed under the |Permission is hereby granted, free of "
    r"charge|"
    r"GNU (Lesser |Affero )?General Public License|Redistribution and use in source and binary|"
    r"^\s*(#|//|/?\*+|--|;)\s*(Copyright|\(c\)|©)[^\n]*\d{4}"
)
# Detectors of known formats by module; the entropy heuristics of detect-secrets drop good examples.
SECRET_DETECTORS = {
    "aws": "AWSKeyDetector", "azure_storage_key": "AzureStorageKeyDetector",
    "discord": "DiscordBotTokenDetector", "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector", "jwt": "JwtTokenDetector", "npm": "NpmDetector",
    "openai": "OpenAIDetector", "private_key": "PrivateKeyDetector",
    "pypi_token": "PypiTokenDetector", "sendgrid": "SendGridDetector", "slack": "SlackDetector",
    "stripe": "StripeDetector", "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}  # fmt: skip
ABOUT_LICENCES = re.compile(r"licen[sc]e|copyright", re.IGNORECASE)


def secret(example: Example) -> bool:
    """Drop a row with a key or token in the format of its provider (detect-secrets, Hub tokens)."""
    return not find_secret(example)


def find_secret(example: Example) -> str:
    """Return the kind of the first key or token and its field, not its text; "" for none."""
    for field, text in zip(ALPACA, example.texts, strict=True):
        if token := TOKEN.search(text):
            kind = "Hugging Face Token" if token["hub"] else "API Key"
            return f"{kind} in {field}"
        for detector in _secret_detectors():
            if any(detector.analyze_string(text)):
                return f"{detector.secret_type} in {field}"
    return ""


def personal_data(example: Example) -> bool:
    """Drop a row with the e-mail address of a person, but not with typical example addresses.

    A first name at a public mail provider (dan@gmail.com) identifies no one; nor does any address
    at a provider if the task is about addresses.
    """
    return not find_personal_data(example)


def find_personal_data(example: Example) -> str:
    """Return the field of the first address of a person, not the address; "" for none."""
    about_addresses = ABOUT_ADDRESSES.search(example.instruction)
    for field, text in zip(ALPACA, example.texts, strict=True):
        for address in EMAIL.finditer(text):
            name, domain = address["name"], address["domain"]
            if EXAMPLE_DOMAIN.search(domain) or EXAMPLE_NAME.match(name):
                continue
            if MAIL_PROVIDER.match(domain) and (about_addresses or SHORT_NAME.match(name)):
                continue
            return f"e-mail address in {field}"
    return ""


def licence_header(example: Example) -> bool:
    """Drop code that was copied with its licence, unless the task is about licences."""
    if ABOUT_LICENCES.search(example.instruction):
        return True
    return not (LICENCE.search(example.output) or LICENCE.search(example.input))


@cache
def _secret_detectors() -> list[Any]:
    return [
        getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
        for module, name in SECRET_DETECTORS.items()
    ]

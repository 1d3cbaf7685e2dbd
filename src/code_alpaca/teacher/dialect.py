"""What a server turns out to understand: asked in the best form first, remembered in the ledger."""

from __future__ import annotations

import json
from typing import Any

from code_alpaca.ledger import Ledger
from code_alpaca.teacher import apis

REFUSED_STATUS = (400, 422)
FORM_WORDS = ("response_format", "json_object", "schema", "structured", "text.format")


class Dialect:
    """The output form and the name of the token limit that this run's servers take."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._form = ledger.meta("teacher_form") or apis.FORMS[0]
        self._limit_key = ledger.meta("teacher_limit_key") or "max_completion_tokens"

    def weaken(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The body in the words that the servers are known to understand."""
        return apis.weaken(payload, self._form, self._limit_key)

    def learn(self, status: int, error: Any, sent: dict[str, Any]) -> bool:
        """Step down after a refusal of `sent`; True: it is worth asking again in other words."""
        if status not in REFUSED_STATUS:
            return False
        told = json.dumps(error).lower()
        if "max_completion_tokens" in sent and "max_completion_tokens" in told:
            self._limit_key = "max_tokens"
            self._ledger.set_meta("teacher_limit_key", self._limit_key)
            return True
        form = apis.form_of(sent)
        if form == "text" or not any(word in told for word in FORM_WORDS):
            return False
        weaker = apis.FORMS[apis.FORMS.index(form) + 1]
        if apis.FORMS.index(weaker) > apis.FORMS.index(self._form):
            self._form = weaker
            self._ledger.set_meta("teacher_form", weaker)
        return True

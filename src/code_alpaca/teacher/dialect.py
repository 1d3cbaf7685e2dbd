"""What a server turns out to understand: asked in the best form first, remembered in the ledger."""

from __future__ import annotations

import json
import re
from typing import Any

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher import apis
from code_alpaca.teacher.refusals import Meaning, Trouble

# llama-cpp-python answers 500 where a body does not fit its schema.
REFUSED_STATUS = (400, 422, 500, 501)
FORM_WORDS = re.compile(
    r"response_format|json_object|json_schema|structured|text\.format|grammar|guided|m(ax|in)items"
)
VAGUE_WORDS = re.compile("schema")  # enough in a refusal, and not in an error of the server
ECHOES = {"input", "flagged_input", "failed_generation", "ctx"}  # keys that repeat our request
STREAM_WORDS = re.compile(r"\bstream.{0,20}\b(mode|only)|only.{0,40}\bstream|\bnon-stream")


class Dialect:
    """The output form and the name of the token limit that this run's servers take."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._form = ledger.meta("teacher_form") or apis.FORMS[0]
        self._limit_key = ledger.meta("teacher_limit_key") or "max_completion_tokens"
        self._stream = ledger.meta("teacher_stream") == "true"

    def weaken(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The body in the words that the servers are known to understand."""
        return apis.weaken(payload, self._form, self._limit_key, stream=self._stream)

    def learn(self, trouble: Trouble, sent: dict[str, Any]) -> bool:
        """Step down after a refusal of `sent`; True: it is worth asking again in other words."""
        unclear = trouble.meaning in (Meaning.DOUBTFUL, Meaning.FAULT)
        if trouble.status not in REFUSED_STATUS or not unclear:
            return False
        said = json.dumps(_without_echoes(trouble.details)).lower()
        if "max_completion_tokens" in sent and "max_completion_tokens" in said:
            self._limit_key = "max_tokens"
            self._ledger.set_meta("teacher_limit_key", self._limit_key)
            return True
        form = apis.form_of(sent)
        vague = trouble.status < 500 and VAGUE_WORDS.search(said)
        if form != "text" and (vague or FORM_WORDS.search(said)):
            weaker = apis.FORMS[apis.FORMS.index(form) + 1]
            if apis.FORMS.index(weaker) > apis.FORMS.index(self._form):
                self._form = weaker
                self._ledger.set_meta("teacher_form", weaker)
            return True
        if "stream" not in sent and STREAM_WORDS.search(said):
            self._stream = True
            self._ledger.set_meta("teacher_stream", "true")
            return True
        return False


def _without_echoes(details: Any) -> Any:
    """An error without the parts of our own request, whose words say nothing about the server."""
    if isinstance(details, dict):
        return {k: _without_echoes(v) for k, v in details.items() if k not in ECHOES}
    return [_without_echoes(item) for item in details] if isinstance(details, list) else details

"""Is it this request that fails, or the server? One costs a request, the other stops the run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

from code_alpaca.core.errors import Refused
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.connection import Tally
from code_alpaca.teacher.refusals import Meaning, Trouble, refusal

MOST_REFUSED = 8  # requests in a row, refused in unknown words: it is not their prompts
LOOK_AGAIN_S = 0.05


class Blame:
    """What is known about a server from how it treats several requests.

    Args:
        tally: of this start; a teacher that answered once is there, and takes our key.
        closing: set when the run ends.
    """

    def __init__(self, ledger: Ledger, tally: Tally, closing: asyncio.Event) -> None:
        self._ledger, self._tally, self._closing = ledger, tally, closing
        self._asking = self._in_doubt = 0  # requests not answered yet; those that wait for others
        self._refused: set[int] = set()  # requests refused since the last answer

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Count a request for as long as it is neither answered nor given up."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    def answered(self) -> None:
        """A request was answered: what was refused before it was refused alone."""
        self._refused.clear()

    async def is_this_prompt(self, number: int, trouble: Trouble) -> bool:
        """Whether request `number` was refused for its prompt.

        A refusal in unknown words waits until the teacher answers another request, or refuses
        others as well. A 403 is about the key, unless the teacher has answered before.

        Raises:
            Refused: it is not the prompt, and the teacher answers nothing else either.
        """
        if trouble.meaning is not Meaning.DOUBTFUL:
            return trouble.meaning is Meaning.PROMPT
        self._refused.add(number)
        self._in_doubt += 1
        try:
            while self._is_open(trouble):
                if self._tally.answered:
                    return True
                if self._asking == self._in_doubt:  # no other request can tell
                    if self._ledger.usage()["replies"]:
                        return True
                    break
                await asyncio.sleep(LOOK_AGAIN_S)
        finally:
            self._in_doubt -= 1
        raise Refused(refusal(trouble.status, trouble.message))

    def is_this_request(self, number: int, trouble: Trouble, answered_before: int | None) -> bool:
        """Whether it is request `number` that brings no reply, after all its tries.

        Others were answered since it first failed, or an earlier start ended at it as well.

        Args:
            answered_before: the teacher's answers when it first failed; None: not known.
        """
        if self._closing.is_set() or not trouble.reached or trouble.meaning is Meaning.BUSY:
            return False
        if answered_before is not None and self._tally.answered > answered_before:
            return True
        ended_at = json.loads(self._ledger.meta("unanswered") or "[]")
        if number in ended_at and self._ledger.usage()["replies"]:
            return True
        self._ledger.set_meta("unanswered", json.dumps(sorted({*ended_at, number})))
        return False

    def _is_open(self, trouble: Trouble) -> bool:
        known = trouble.status == 403 and not self._tally.answered
        return len(self._refused) < MOST_REFUSED and not known and not self._closing.is_set()

"""Exact novelty: is this instruction too like one that we already have?

The rule is that of Self-Instruct and Code Alpaca: ROUGE-L F1 (Lin 2004,
https://aclanthology.org/W04-1013) between the candidate's instruction and every instruction
kept so far, seeds included; above the threshold it is dropped, exactly at it, it stays.
The tokens are `rouge_score`'s (lower case, every run outside [a-z0-9] separates, no stemmer)
and the score is computed by its own float expression, so decisions equal those of the library.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

SEPARATOR = re.compile(r"[^a-z0-9]+")


class Novelty:
    """The instructions kept so far, and the verdict on the next one.

    Each distinct token becomes one character, so that rapidfuzz's bit-parallel LCS over
    characters is the LCS over tokens.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._lengths = array("i")
        self._letters: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, row_id: str, instruction: str) -> None:
        """Keep an instruction; later ones are compared with it."""
        text = self._encode(instruction)
        self._ids.append(row_id)
        self._texts.append(text)
        self._lengths.append(len(text))

    def nearest(self, instruction: str) -> tuple[str, float]:
        """The id of the most similar kept instruction (the oldest of equals) and its ROUGE-L F1.

        Nothing kept, or no token in common, is ("", 0.0).
        """
        text = self._encode(instruction)
        if not text or not self._texts:
            return "", 0.0
        common = cdist([text], self._texts, scorer=LCSseq.similarity, dtype=np.int32)[0]
        scores = rouge_l_f1(common, np.frombuffer(self._lengths, np.int32), len(text))
        best = int(scores.argmax())
        return (self._ids[best], float(scores[best])) if scores[best] > 0 else ("", 0.0)

    def too_similar(self, score: float) -> bool:
        return score > self.threshold

    def _encode(self, instruction: str) -> str:
        return "".join(self._letter(token) for token in tokenize(instruction))

    def _letter(self, token: str) -> str:
        """A character of its own for each token; the surrogate range is left out."""
        found = self._letters.get(token)
        if found is None:
            code = len(self._letters)
            found = self._letters[token] = chr(code if code < 0xD800 else code + 0x800)
        return found


def tokenize(text: str) -> Sequence[str]:
    """rouge_score's tokens without its stemmer."""
    return [token for token in SEPARATOR.split(text.lower()) if token]


def rouge_l_f1(common: np.ndarray, length: np.ndarray, candidate_length: int) -> np.ndarray:
    """ROUGE-L F1 from LCS lengths (n,), kept lengths (n,) and the candidate's length.

    Written as rouge_score writes it (2 * p * r / (p + r), p over the candidate's length), since
    at a threshold such as 0.7 the order of the float operations decides.
    """
    precision = common / candidate_length
    recall = common / np.maximum(length, 1)
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)

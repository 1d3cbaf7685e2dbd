"""Find near-duplicates with MinHash and LSH: {rows, sketch} -> {seconds, hits}.

`rows` is a file with one tokenized row per line, `sketch` a name of SKETCHES. A row is a hit if it
is similar to an earlier row that was none; seconds are CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Datasketch:
    def __init__(self, ngram: int, threshold: float) -> None:
        from datasketch import MinHashLSH

        self.ngram, self.lsh = ngram, MinHashLSH(threshold, 128)

    def is_duplicate(self, number: int, words: list[str]) -> bool:
        from datasketch import MinHash

        sketch = MinHash(num_perm=128)
        count = max(1, len(words) - self.ngram + 1)
        grams = {" ".join(words[start : start + self.ngram]) for start in range(count)}
        sketch.update_batch([gram.encode() for gram in grams])
        if self.lsh.query(sketch):
            return True
        self.lsh.insert(number, sketch)
        return False


class Rensa:
    def __init__(self, threshold: float) -> None:
        from rensa import RMinHashLSH

        self.threshold, self.lsh, self.sketches = threshold, RMinHashLSH(threshold, 128, 32), {}

    def is_duplicate(self, number: int, words: list[str]) -> bool:
        from rensa import RMinHash

        sketch = RMinHash(num_perm=128, seed=42)
        sketch.update(words)
        candidates = self.lsh.query(sketch)
        if any(sketch.jaccard(self.sketches[other]) >= self.threshold for other in candidates):
            return True
        self.sketches[number] = sketch
        self.lsh.insert(number, sketch)
        return False


SKETCHES: dict[str, Callable[[], Datasketch | Rensa]] = {
    "datasketch, 3-grams, 0.7": lambda: Datasketch(3, 0.7),
    "datasketch, words, 0.5": lambda: Datasketch(1, 0.5),
    "rensa, words, 0.5": lambda: Rensa(0.5),
}


def main() -> None:
    request = json.load(sys.stdin)
    rows = [line.split() for line in Path(request["rows"]).read_text("utf-8").splitlines()]
    make_index = SKETCHES[request["sketch"]]
    make_index().is_duplicate(0, ["imports", "are", "not", "timed"])
    index = make_index()
    started = time.process_time()
    hits = [index.is_duplicate(number, words) for number, words in enumerate(rows)]
    print(json.dumps({"seconds": time.process_time() - started, "hits": hits}))


if __name__ == "__main__":
    main()

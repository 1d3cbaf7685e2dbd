"""Grade programs with EvalPlus: {cases, workers} -> {seconds, passed}.

`cases` is a pickle of the arguments of `untrusted_check`, without the dataset.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path


def main() -> None:
    from evalplus.eval import untrusted_check

    request = json.load(sys.stdin)
    cases = pickle.loads(Path(request["cases"]).read_bytes())
    started = time.monotonic()
    with ProcessPoolExecutor(request["workers"]) as pool:
        futures = [
            pool.submit(untrusted_check, "humaneval", *case, fast_check=True) for case in cases
        ]
        passed = sum(future.result()[0] == "pass" for future in futures)
    print(json.dumps({"seconds": time.monotonic() - started, "passed": passed}))


if __name__ == "__main__":
    main()

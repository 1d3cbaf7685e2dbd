"""Push dataset folders named on standard input, one JSON list a line, and say how each ended.

A process of its own, since `huggingface_hub` reads HF_ENDPOINT and HF_TOKEN once, at import.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.dataset.push import preupload_shards, preview_push, push_dataset
from code_alpaca.hub import client
from code_alpaca.hub.release_plan import ReleaseTerms

for line in sys.stdin:
    folder, repo, options = json.loads(line)
    said: list[str] = []
    ended = {"kind": "", "said": said}
    client.MAX_ATTEMPTS = options.pop("tries", 6)
    try:
        if options.pop("ahead", False):
            preupload_shards(Path(folder), repo, set())
        elif options.pop("dry", False):
            terms = ReleaseTerms(**options)
            ended["said"] = preview_push(Path(folder), repo, Path(folder).parent, terms)
        else:
            ended["sha"] = push_dataset(Path(folder), repo, ReleaseTerms(**options), said.append)
    except (InputError, Stopped) as error:
        ended |= {"kind": type(error).__name__, "error": str(error)}
    print(json.dumps(ended), flush=True)

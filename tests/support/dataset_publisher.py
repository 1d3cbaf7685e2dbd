"""Push dataset folders named on standard input, one JSON list a line, and say how each ended.

A process of its own, since `huggingface_hub` reads HF_ENDPOINT and HF_TOKEN once, at import.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.dataset.push import preupload, preview, push
from code_alpaca.hub import client

for line in sys.stdin:
    folder, repo, options = json.loads(line)
    said: list[str] = []
    ended = {"kind": "", "said": said}
    client.MAX_ATTEMPTS = options.pop("tries", 6)
    try:
        if options.pop("ahead", False):
            preupload(Path(folder), repo, set())
        elif options.pop("dry", False):
            ended["said"] = preview(Path(folder), repo, Path(folder).parent, **options)
        else:
            ended["sha"] = push(Path(folder), repo, say=said.append, **options)
    except (InputError, Stopped) as error:
        ended |= {"kind": type(error).__name__, "error": str(error)}
    print(json.dumps(ended), flush=True)

"""Run commands named on standard input, one JSON list a line, and say how each ended.

A process of its own, since `huggingface_hub` reads HF_ENDPOINT and HF_TOKEN once, at import.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from code_alpaca.cli import main
from code_alpaca.hub import client

for line in sys.stdin:
    words, tries = json.loads(line)
    client.MAX_ATTEMPTS = tries
    shown, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(errors):
        code = main(words)
    print(json.dumps([code, shown.getvalue(), errors.getvalue()]), flush=True)

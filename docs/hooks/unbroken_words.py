"""MkDocs hook: wrap commands and inline code at spaces, not after a hyphen.

A browser breaks a line after any hyphen, so that `--dry_run` would end one line as `--`. No CSS
property turns this off alone, and a non-breaking hyphen would be copied with the command. So each
word with a hyphen becomes an element, which `site.css` moves to the next line as a whole.
"""

from __future__ import annotations

import re
from typing import Any

# Commands, or else blocks that do not wrap, or else inline code.
CODE = re.compile(
    r'<div class="language-sh highlight">.*?</pre>|<pre.*?</pre>|<code>.*?</code>', re.S
)
# Text without spaces, with whole tokens of the highlighter in it; or a tag, which is not text.
WORD = re.compile(r'(?:[^\s<]|<span class="\w+">[^\s<]*</span>)+|<[^>]*>')


def on_page_content(html: str, **_: Any) -> str:
    """Wrap the words with a hyphen in the code of a page."""
    return CODE.sub(_wrap_words, html)


def _wrap_words(code: re.Match[str]) -> str:
    return code[0] if code[0].startswith("<pre") else WORD.sub(_wrap_word, code[0])


def _wrap_word(word: re.Match[str]) -> str:
    is_breakable = not word[0].startswith("<") and re.search(r"-\w", word[0])
    return f'<span class="word">{word[0]}</span>' if is_breakable else word[0]

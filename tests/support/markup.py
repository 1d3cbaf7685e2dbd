"""Texts that try to become markup, and what markup a reader would see."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

PARSER = MarkdownIt("commonmark").enable("table")
HOSTILE = [
    "```\n# Injected\n\n[a](https://evil.example) <script>x</script>\n```",
    "~~~~\n# Injected\n~~~~",
    "``````text\n</details>\n``````\n## Licence\n\n`mit`\n",
    "\n---\nlicense: mit\n---\n# Injected",
    "a | b\n\n| c | d |\n|---|---|\n| [x](https://evil.example) | <b>y</b> |",
    "` `` ` <img src=x onerror=y> ![z](https://evil.example/z.png) https://evil.io www.evil.io",
    "\\| \\` \\[a](https://evil.example) &lt;b&gt; *x* _y_ ~~z~~ $$\\frac{}{}$$",
    "<!-- rewritten by every release -->\r# Injected\r\r<!--",
    "{{ 7 * 7 }}{% raw %}",
]


def shape(text):
    """What a reader sees of a card but for words: headings, links, images, HTML, rows of tables."""
    found = []
    for token in PARSER.parse(text):
        for each in (token, *(token.children or ())):
            if each.type in ("heading_open", "html_block", "html_inline", "tr_open", "hr"):
                found.append((each.type, each.content))
            elif each.type in ("link_open", "image"):
                found.append((each.type, each.attrGet("href") or each.attrGet("src")))
    return found


def body(text):
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def front(text):
    return re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1]

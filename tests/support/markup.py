"""Texts that try to become markup, and the markup that a rendered card contains."""

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
    """Return the headings, links, images, HTML and table rows of a card, without its words."""
    found = []
    for token in PARSER.parse(text):
        for part in (token, *(token.children or ())):
            if part.type in ("heading_open", "html_block", "html_inline", "tr_open", "hr"):
                found.append((part.type, part.content))
            elif part.type in ("link_open", "image"):
                found.append((part.type, part.attrGet("href") or part.attrGet("src")))
    return found


def body(text):
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def front(text):
    return re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)[1]

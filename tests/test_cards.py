"""A new card keeps what people wrote into the old one, but for its numbers."""

from __future__ import annotations

from code_alpaca.cards import ANEW, merge

BASE = f"""---
license: mit
---

# T 1

## N
{ANEW}
1

## P

```
## no heading
```
prose
"""


def test_a_card_that_nobody_edited_is_ours():
    ours = BASE.replace("# T 1", "# T 2").replace("\n1\n", "\n2\n")
    assert merge(ours, BASE, BASE) == (ours, [], [])


def test_sections_that_people_deleted_or_added_stay_so():
    ours = BASE.replace("\n1\n", "\n2\n")
    theirs = BASE[: BASE.index("## P")] + "## Q\n\nnew\n"
    merged = merge(ours, BASE, theirs)
    assert "## P" not in merged.text and merged.text.endswith("## Q\n\nnew\n")
    assert "\n2\n" in merged.text and merged.kept == ["Q", "P (deleted)"]


def test_numbers_are_never_kept():
    theirs = BASE.replace("\n1\n", "\n100,000\n").replace("mit", "other")
    merged = merge(BASE, BASE, theirs)
    assert merged.text == BASE and merged.lost == ["N", "metadata license"]

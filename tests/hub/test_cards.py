"""A new card keeps what people wrote into the old one, but for its numbers."""

from __future__ import annotations

import pytest

from code_alpaca.hub.cards import REWRITTEN, adopt_card, install_command, merge_cards

BASE = f"""---
license: mit
---

# T 1

## N
{REWRITTEN}
1

## P

```
## no heading
```
prose
"""


def test_a_card_that_nobody_edited_is_ours():
    ours = BASE.replace("# T 1", "# T 2").replace("\n1\n", "\n2\n")
    assert merge_cards(ours, BASE, BASE) == (ours, [], [])


def test_sections_that_people_deleted_or_added_stay_so():
    ours = BASE.replace("\n1\n", "\n2\n")
    theirs = BASE[: BASE.index("## P")] + "## Q\n\nnew\n"
    merged = merge_cards(ours, BASE, theirs)
    assert "## P" not in merged.text and merged.text.endswith("## Q\n\nnew\n")
    assert "\n2\n" in merged.text and merged.kept == ["Q", "P (deleted)"]


def test_numbers_are_never_kept():
    base = BASE.replace("license: mit", "license: mit\nsize_categories:\n- n<1K")
    theirs = base.replace("\n1\n", "\n100,000\n").replace("n<1K", "1M<n<10M")
    merged = merge_cards(base, base, theirs)
    assert merged.text == base and merged.lost == ["N", "metadata size_categories"]


def test_a_licence_and_a_name_that_people_set_stay_and_the_text_says_the_same():
    base = BASE.replace("license: mit", "license: other\npretty_name: T")
    base += f"\n## Licence\n{REWRITTEN}\n\n`other`.\n"
    theirs = base.replace("license: other", "license: mit").replace("_name: T", "_name: Tasks")
    merged = merge_cards(base.replace("# T 1", "# T 2"), base, theirs)
    assert merged.kept == ["metadata license", "metadata pretty_name"] and not merged.lost
    assert "license: mit\npretty_name: Tasks\n" in merged.text and "# T 2" in merged.text
    assert "\n`mit`.\n" in merged.text and "`other`" not in merged.text


def test_a_licence_that_a_release_names_wins_over_one_set_by_hand():
    ours = BASE.replace("license: mit", "license: apache-2.0")
    merged = merge_cards(ours, BASE, BASE.replace("license: mit", "license: other"))
    assert merged.text == ours and merged.lost == ["metadata license"]


def test_metadata_from_before_the_first_release_is_adopted():
    ours = BASE.replace("license: mit", "license: other\npretty_name: T")
    merged = adopt_card(ours, "---\nlicense: mit\ntags: [code]\n---\n")
    assert merged.text.startswith("---\nlicense: mit\npretty_name: T\ntags:\n- code\n---\n")
    assert merged.kept == ["metadata license", "metadata tags"] and not merged.lost


@pytest.mark.parametrize(
    ("urls", "line"),
    [
        ("", "# with demo-tool 1.2.0 installed from its repository"),
        ("Project-URL: Documentation, https://docs.example\n", "# with demo-tool 1.2.0"),
        ("Project-URL: Repository, https://git.example/org/tool\n",
         "pip install 'demo-tool @ git+https://git.example/org/tool@v1.2.0'"),
    ],
)  # fmt: skip
def test_a_tool_is_installed_from_its_repository_or_not_at_all(tmp_path, monkeypatch, urls, line):
    about = tmp_path / "demo_tool-1.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: demo-tool\nVersion: 1.2.0\n{urls}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("demo-tool").startswith(line)

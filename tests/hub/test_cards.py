"""A new card keeps what people edited in the released one, except numbers."""

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
## not a heading
```
prose
"""


def test_an_unedited_card_is_replaced():
    new = BASE.replace("# T 1", "# T 2").replace("\n1\n", "\n2\n")
    assert merge_cards(new, BASE, BASE) == (new, [], [])


def test_added_sections_stay_and_deleted_ones_stay_deleted():
    new = BASE.replace("\n1\n", "\n2\n")
    edited = BASE[: BASE.index("## P")] + "## Q\n\nnew\n"
    merged = merge_cards(new, BASE, edited)
    assert "## P" not in merged.text and merged.text.endswith("## Q\n\nnew\n")
    assert "\n2\n" in merged.text and merged.kept == ["Q", "P (deleted)"]


def test_edited_numbers_are_rewritten():
    base = BASE.replace("license: mit", "license: mit\nsize_categories:\n- n<1K")
    edited = base.replace("\n1\n", "\n100,000\n").replace("n<1K", "1M<n<10M")
    merged = merge_cards(base, base, edited)
    assert merged.text == base and merged.lost == ["N", "metadata size_categories"]


def test_a_section_that_an_earlier_template_marked_as_rewritten_is_not_kept():
    new = BASE.replace("## N", "## Numbers")
    merged = merge_cards(new, BASE, BASE.replace("\n1\n", "\n2\n"))
    assert merged.text == new and merged.lost == ["N"]


def test_an_edited_license_and_name_are_kept_and_the_section_agrees():
    base = BASE.replace("license: mit", "license: other\npretty_name: T")
    base += f"\n## License\n{REWRITTEN}\n\n`other`.\n"
    edited = base.replace("license: other", "license: mit").replace("_name: T", "_name: Tasks")
    merged = merge_cards(base.replace("# T 1", "# T 2"), base, edited)
    assert merged.kept == ["metadata license", "metadata pretty_name"] and not merged.lost
    assert "license: mit\npretty_name: Tasks\n" in merged.text and "# T 2" in merged.text
    assert "\n`mit`.\n" in merged.text and "`other`" not in merged.text


def test_the_section_keeps_an_edited_license_under_the_heading_of_this_version():
    released = BASE.replace("license: mit", "license: other")
    released += f"\n## Licence\n{REWRITTEN}\n\n`other`.\n"
    edited = released.replace("license: other", "license: mit").replace("`other`", "`mit`")
    merged = merge_cards(released.replace("## Licence", "## License"), released, edited)
    assert "## License\n" in merged.text and "## Licence" not in merged.text
    assert "license: mit\n" in merged.text and "\n`mit`.\n" in merged.text
    # A section without numbers is kept as it was edited.
    released = f"{BASE}\n## Licence\n\n`mit`.\n"
    edited = released + "Ask us for another one.\n"
    merged = merge_cards(released.replace("## Licence", "## License"), released, edited)
    assert merged.text == edited.replace("## Licence", "## License")
    assert merged.kept == ["License"]


def test_a_license_that_the_release_changes_wins_over_an_edited_one():
    new = BASE.replace("license: mit", "license: apache-2.0")
    merged = merge_cards(new, BASE, BASE.replace("license: mit", "license: other"))
    assert merged.text == new and merged.lost == ["metadata license"]


def test_metadata_from_before_the_first_release_is_adopted():
    new = BASE.replace("license: mit", "license: other\npretty_name: T")
    merged = adopt_card(new, "---\nlicense: mit\ntags: [code]\n---\n")
    assert merged.text.startswith("---\nlicense: mit\npretty_name: T\ntags:\n- code\n---\n")
    assert merged.kept == ["metadata license", "metadata tags"] and not merged.lost


@pytest.mark.parametrize(
    ("urls", "line"),
    [
        ("", "# with demo-tool 1.2.0 installed from its repository"),
        ("Project-URL: Documentation, https://docs.example\n", "# with demo-tool 1.2.0"),
        ("Project-URL: Repository, https://git.example/org/tool\n",
         "pip install 'demo-tool @ git+https://git.example/org/tool@v1.2.0'"),
        ("Project-URL: Repository, https://git.example/OWNER/tool\n", "# with demo-tool 1.2.0"),
        ("Project-URL: Repository, https://git.example/org/tool\n"
         "Project-URL: Index, https://index.example/demo-tool\n", "pip install demo-tool==1.2.0"),
    ],
)  # fmt: skip
def test_the_install_command_uses_the_repository_until_the_package_is_on_the_index(
    tmp_path, monkeypatch, urls, line
):
    about = tmp_path / "demo_tool-1.2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: demo-tool\nVersion: 1.2.0\n{urls}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert install_command("demo-tool").startswith(line)

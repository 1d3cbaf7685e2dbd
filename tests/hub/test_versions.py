"""Versions have the order of SemVer, and tags that are not versions are ignored."""

from __future__ import annotations

import itertools

import pytest

from code_alpaca.hub.versions import latest_version

# The example of https://semver.org, section 11, with versions around it.
IN_ORDER = [
    "0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
]  # fmt: skip


@pytest.mark.parametrize(("lower", "higher"), itertools.pairwise(IN_ORDER), ids=IN_ORDER[1:])
def test_versions_have_the_order_of_semver(lower, higher):
    assert latest_version([f"v{lower}", f"v{higher}"]) == higher
    assert latest_version([f"v{higher}", f"v{lower}"]) == higher


def test_the_latest_version_ignores_other_tags_and_prefers_releases_to_candidates():
    tags = ["v1.2.0", "v1.10.0", "main", "v2", "1.99.0", "vx", "v1.10.0-rc.1"]
    assert latest_version(tags) == "1.10.0"
    assert latest_version(["nightly"]) is None

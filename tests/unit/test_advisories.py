"""Known holes of Ollama, and the order of its versions."""

import random
from itertools import pairwise

import pytest

from gateway.core.advisories import ADVISED, ADVISORIES, warnings
from gateway.core.versions import known, older, order

ASCENDING = ["0.1.9", "0.1.34", "0.9.7", "0.12.0-rc1", "0.12.0-rc10", "0.12.0", "0.12.0-3-gabc1234", "0.12.1", "1.0.0"]
UNKNOWN = ["", "0.0.0", "0.0.0-dirty", "custom-build", "dev", "-"]


def test_versions_have_an_order() -> None:
    shuffled = random.sample(ASCENDING, len(ASCENDING))
    assert sorted(shuffled, key=order) == ASCENDING
    for one, other in pairwise(ASCENDING):
        assert older(one, other)
        assert not older(other, one)
        assert not older(one, one)


def test_a_leading_v_means_nothing() -> None:
    assert older("v0.17.0", "0.17.1")
    assert not older("v0.17.1", "0.17.1")


@pytest.mark.parametrize("version", UNKNOWN)
def test_of_a_version_that_says_nothing_nobody_is_warned(version: str) -> None:
    assert not known(version)
    assert not older(version, "99.0.0")
    assert warnings(version) == ()


@pytest.mark.parametrize(
    ("version", "named", "unnamed"),
    [
        ("0.34.1", {"CVE-2026-108836"}, {"CVE-2026-7482"}),
        ("0.34.2-rc0", {"CVE-2026-108836"}, {"CVE-2026-7482"}),
        ("0.17.0", {"CVE-2026-7482", "CVE-2026-108836"}, {"CVE-2024-12886"}),
        ("0.17.1", {"CVE-2026-108836"}, {"CVE-2026-7482"}),
        ("0.1.33", {"CVE-2024-37032", "CVE-2024-45436"}, {"CVE-2024-28224"}),
        ("0.1.28", {one.id for one in ADVISORIES}, set()),
    ],
)
def test_a_node_is_warned_of_the_holes_its_version_has(version: str, named: set[str], unnamed: set[str]) -> None:
    told = " ".join(warnings(version))
    assert all(name in told for name in named)
    assert not any(name in told for name in unnamed)
    assert warnings(version)[-1] == f"update this node's Ollama {version} to {ADVISED} or newer"


@pytest.mark.parametrize("version", [ADVISED, "0.34.2-1-gabcdef0", "0.35.0", "1.0.0"])
def test_the_advised_version_has_none_of_them(version: str) -> None:
    assert warnings(version) == ()


def test_every_hole_is_told_once_with_where_it_was_closed() -> None:
    assert len({one.id for one in ADVISORIES}) == len(ADVISORIES)
    for one in ADVISORIES:
        assert known(one.fixed_in)
        assert not older(ADVISED, one.fixed_in)
        assert one.id.startswith("CVE-")

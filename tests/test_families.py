"""Families of names that nobody tuned this to: what is read of them is right, or refused."""

from __future__ import annotations

import pytest
from made_names import families, figures


@pytest.mark.parametrize("seed", [1, 2])
def test_families_are_read_rightly(seed: int) -> None:
    counts, told = figures(150, seed)
    total = sum(counts.values())
    assert counts["wrong structure"] == 0, told
    assert counts["wrong label"] <= 0.03 * total, told
    assert counts["refused"] <= 0.25 * total, told
    assert counts["right"] >= 0.8 * total, told


def test_the_generator_makes_the_same_families_again() -> None:
    first, again = ([family.names for family in families(20, seed=3)] for _ in range(2))
    assert first == again
    assert first != [family.names for family in families(20, seed=4)]
    assert len({name for names in first for name in names}) > 500

"""Damaged files neither hang nor lie; ci/fuzz.sh tries more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conftest import DATA
from fuzz import FAULTS, run, some_of, write_flavours

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(2))
def test_mutants(tmp_path: Path, seed: int) -> None:
    files = write_flavours(tmp_path)
    if (DATA / "broken_pillow").is_dir():
        files += some_of(DATA / "broken_pillow")
    counts, faults = run(files, tmp_path, 300, seed)
    assert not faults
    assert sum(counts[kind] for kind in FAULTS) == 0
    # Most are read or refused for a reason: the mutants are neither all harmless nor all rubbish.
    assert min(counts[kind] for kind in ("as before", "as tifffile", "refused")) > 15

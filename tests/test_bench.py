"""The benchmark's parts run, on a few minute files; nothing is said of how fast."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]

# What peers warn of is their own affair; those that are not installed drop out.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bench() -> Callable[[str], Any]:
    """Import a module of the benchmark, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "ci"))
        yield lambda name: importlib.import_module(f"bench.{name}")


def test_every_row_is_measured_and_written_down(
    bench: Callable[[str], Any], tmp_path: Path
) -> None:
    shop = bench("data").Workshop(tmp_path, quick=True, small=True)
    rows = {measure.__name__: list(measure(shop)) for measure in bench("__main__").ROWS}
    every = [row for each in rows.values() for row in each]
    assert len({row.what for row in every}) == len(every)
    for row in every:
        assert row.measured != "not run" or row.notes, row
        assert (row.reached is None) == (not row.target), row
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    bench("page").rewrite(page, rows, bench("__main__").machine())
    written = page.read_text()
    for row in every:
        assert f"| {row.what} |" in written
    # A second time it replaces what it wrote.
    bench("page").rewrite(page, rows, bench("__main__").machine())
    assert page.read_text() == written


def test_what_counts_counts_exactly(bench: Callable[[str], Any], tmp_path: Path) -> None:
    measure, data = bench("measure"), bench("data")
    shop = data.Workshop(tmp_path, quick=True, small=True)
    names = sorted(shop.reference.iterdir())
    read = bench("peers").plane_reader(names[0], 2)
    nbytes = shop.shape[1] * shop.shape[2] * 2
    assert measure.bytes_read(read) == nbytes
    with measure.tiffs_opened() as opened:
        read()
    read()
    assert opened == [str(names[0])]


def test_a_peer_that_fails_is_noted_and_drops_out(bench: Callable[[str], Any]) -> None:
    measure = bench("measure")
    calls = []

    def fail() -> None:
        calls.append("fail")
        raise RuntimeError("cannot")

    row = measure.Row("what", "target")
    row.race({measure.OURS: lambda: calls.append("ours"), "peer": fail}, 2)
    assert calls == ["ours", "fail", "ours", "ours"]
    assert row.notes == ["peer: RuntimeError: cannot"]
    assert list(row.times) == [measure.OURS]
    with pytest.raises(RuntimeError, match="cannot"):
        row.race({measure.OURS: fail}, 1)

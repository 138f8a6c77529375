"""The benchmark runs on a few tiny files; nothing is said about speed."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]

# The warnings of other packages are not this one's; those that are not installed drop out.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bench() -> Iterator[Callable[[str], Any]]:
    """Import a module of the benchmark, which is not part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "ci"))
        yield lambda name: importlib.import_module(f"bench.{name}")


@pytest.mark.parametrize(
    "name",
    [
        *("open_files", "one_plane", "selections", "full_pass", "compressed", "small_files"),
        *("convert", "convert_to_disk", "convert_to_s3", "convert_many", "convert_planes"),
        *("index", "choices", "looking", "urls", "by_processes", "blocks", "keep", "write_back"),
    ],
)
def test_every_row_is_measured(name: str, bench: Callable[[str], Any], tmp_path: Path) -> None:
    rows = bench("rows")
    added = *bench("back").BACK, *bench("machines").MACHINES, bench("looking").looking
    added = *added, *bench("remote").REMOTE
    measures = {measure.__name__: measure for measure in (*rows.READING, *rows.WRITING, *added)}
    assert len(measures) == 19
    shop = bench("data").Workshop(tmp_path, quick=True, small=True)
    if name == "convert_to_s3" and not (find_spec("moto") and find_spec("s3fs")):
        pytest.skip("needs moto and s3fs")
    if name == "urls" and not find_spec("obstore"):
        pytest.skip("needs obstore")
    found = list(measures[name](shop))
    assert found
    assert len({row.what for row in found}) == len(found)
    for row in found:
        assert row.measured
        assert (row.reached is None) == (not row.target), row
        assert str(row).count("|") == bench("measure").HEAD.splitlines()[0].count("|")


def test_bytes_are_counted_exactly(bench: Callable[[str], Any], tmp_path: Path) -> None:
    measure, data = bench("measure"), bench("data")
    shop = data.Workshop(tmp_path, quick=True, small=True)
    names = sorted(shop.reference.iterdir())
    read = bench("peers").plane_reader(names[0], 2)
    nbytes = shop.shape[1] * shop.shape[2] * 2
    assert measure.bytes_read(read) == nbytes


def test_one_that_fails_is_noted_and_drops_out(bench: Callable[[str], Any]) -> None:
    measure = bench("measure")
    calls = []

    def fail() -> None:
        calls.append("fail")
        raise RuntimeError("cannot")

    race = measure.Race({measure.OURS: lambda: calls.append("ours"), "other": fail}, 2)
    assert calls == ["ours", "fail", "ours", "ours"]
    assert list(race.rounds) == [measure.OURS]
    assert race.others() == "other fails (RuntimeError)"
    with pytest.raises(RuntimeError, match="cannot"):
        measure.Race({measure.OURS: fail}, 1)

"""`tiffstack convert --dry-run`: what it says comes true, and it writes nothing."""

from __future__ import annotations

import os
from collections import namedtuple
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr
import zarr
from conftest import reference_name, write, write_acquisition

from xarray_tiffstack.cli import main
from xarray_tiffstack.ome_zarr.forecast import Forecast, forecast
from xarray_tiffstack.ome_zarr.journal import path_of
from xarray_tiffstack.ome_zarr.settings import Options

if TYPE_CHECKING:
    from pathlib import Path


PLANES = "cell_t{t:02d}_z{z:02d}.tif"


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with the time of its last change."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in (folder, *folder.rglob("*"))
    }


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = write_acquisition(tmp_path / "raw")
    (folder / reference_name(1, 2)).unlink()
    return folder


def opened(folder: Path) -> xr.Dataset:
    return xr.open_dataset(folder, engine="tiffstack")


@pytest.mark.parametrize(
    "options", [Options(), Options(chunks={"y": 8, "z": 2}, shards="auto"), Options(levels=2)]
)
def test_what_it_says_comes_true(raw: Path, tmp_path: Path, options: Options) -> None:
    from xarray_tiffstack.ome_zarr.convert import convert

    target, ds, before = tmp_path / "new" / "store.zarr", opened(raw), state(tmp_path)
    found = forecast(ds, target, options)
    assert state(tmp_path) == before
    assert (found.outcome, found.images, found.missing) == ("create", 1, 1)
    summary = convert(ds, target, options, progress=False)
    assert (found.files, found.blocks, found.todo) == (
        summary.files, summary.blocks, summary.written,
    )  # fmt: skip
    assert found.reads == summary.nbytes
    root, stored = zarr.open_group(target, mode="r"), 0
    for level in found.levels:
        array = root[level.path]
        assert array.shape == tuple(level.shape.values())
        assert array.chunks == tuple(level.chunk.values())
        assert array.shards == (tuple(level.shard.values()) if level.shard else None)
        assert array.nbytes == level.nbytes
        stored += sum(path.is_file() for path in (target / level.path / "c").rglob("*"))
    hole = sum(level.files for level in found.levels) // 15  # of one of 3 x 5 files
    assert found.stored - stored in (0, hole)
    assert forecast(ds, target, options).outcome == "nothing"
    assert forecast(ds, target, options, overwrite=True).outcome == "replace"


def test_what_is_left_of_a_conversion(raw: Path, tmp_path: Path) -> None:
    target, ds = tmp_path / "store.zarr", opened(raw)
    # Blocks of one file each.
    from xarray_tiffstack.ome_zarr.convert import convert
    from xarray_tiffstack.ome_zarr.settings import Limits

    limits = Limits(small=1, large=1)
    convert(ds, target, Options(), progress=False, limits=limits)
    root = zarr.open_group(target, mode="r+")
    root.attrs["tiffstack"] = {**root.attrs["tiffstack"], "state": "writing"}
    journal = zarr.open_array(target, path=path_of(0), mode="r+")
    journal[:, :2] = float("nan")
    before = state(tmp_path)
    found = forecast(ds, target, Options(), limits=limits)
    assert found.outcome == "resume"
    assert 0 < found.todo < found.blocks
    assert state(tmp_path) == before
    assert convert(ds, target, Options(), progress=False, limits=limits).written == found.todo


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_what_would_be_kept_beside_pixels(tmp_path: Path, compression: str | None) -> None:
    from xarray_tiffstack.accessor.saving import keeper_of

    raw = write_acquisition(tmp_path / "raw", 2, compression=compression)
    (raw / "notes.txt").write_text("mine")
    target, ds, before = tmp_path / "store.zarr", opened(raw), state(tmp_path)

    def would() -> Forecast:
        keeper = keeper_of(ds, restorable=True, keep_whole=False)
        return forecast(ds, target, Options(), keeper=keeper)

    found = would()
    assert state(tmp_path) == before
    assert found.outcome == "create"
    summary = ds.tiffstack.to_ome_zarr(target, restorable=True, progress=False)
    assert found.kept == summary.kept
    assert found.kept is not None
    assert (found.kept.files, found.kept.others) == (7, 1)
    own = zarr.open_group(target, mode="r", path="tiffstack/files")
    entries = [own[name][...].reshape(-1, own[name].shape[-1]) for name in ("slots", "others")]
    size = sum(int(np.flatnonzero(row)[-1]) + 1 for rows in entries for row in rows)
    assert size <= found.kept_nbytes
    assert would().outcome == "nothing"
    assert forecast(ds, target, Options()).outcome == "refuse"


def test_what_a_part_would_do(tmp_path: Path) -> None:
    from xarray_tiffstack.ome_zarr.convert import convert
    from xarray_tiffstack.ome_zarr.settings import Limits

    raw = write_planes(tmp_path / "raw")
    target, ds = tmp_path / "store.zarr", xr.open_dataset(raw, engine="tiffstack", pattern=PLANES)
    options, limits = Options(levels=3, chunks={"z": 4}), Limits(small=4 * 64 * 2, short=1)

    def would(part: str) -> Forecast:
        return forecast(ds, target, options, limits=limits, part=part)

    for at, number in enumerate((2, 3, 1)):
        found = would(f"{number}/3")
        assert found.outcome == ("resume" if at else "create")
        assert found.part == (number, 3)
        assert f"part {number} of 3 has to write: {found.todo} of" in str(found)
        summary = convert(ds, target, options, limits=limits, part=f"{number}/3", progress=False)
        if at < 2:  # the last one takes what others left, too
            assert summary.written == found.todo - found.waiting
            assert summary.left == found.others + found.waiting
        else:
            assert summary.written == found.todo + found.others
    assert would("1/3").outcome == "nothing"
    with pytest.raises(ValueError, match="could delete what other parts wrote"):
        forecast(ds, target, options, part="1/3", overwrite=True)


def write_planes(folder: Path) -> Path:
    """Write files of one plane each, of which many make a chunk."""
    for t, z in product(range(3), range(16)):
        write(folder / f"cell_t{t:02d}_z{z:02d}.tif", 16 * t + z, (8, 8))
    return folder


def test_why_it_would_be_refused(raw: Path, tmp_path: Path) -> None:
    target, ds = tmp_path / "store.zarr", opened(raw)
    assert "inside the source" in forecast(ds, raw / "store.zarr", Options()).reason
    ds.tiffstack.to_ome_zarr(target, progress=False)
    before = state(tmp_path)
    found = forecast(ds, target, Options(levels=2))
    assert found.outcome == "refuse"
    assert "it was made with other" in found.reason
    path = raw / reference_name(0, 0)
    os.utime(path, ns=(0, 0))
    found = forecast(ds, target, Options())
    assert found.outcome == "refuse"
    assert "files changed since the conversion began" in found.reason  # of a block
    with pytest.raises(FileExistsError, match="files changed since"):
        ds.tiffstack.to_ome_zarr(target, progress=False)
    before[str(path)] = (0, path.stat().st_size)
    assert state(target) == {k: v for k, v in before.items() if k.startswith(str(target))}


def test_from_the_shell(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store.zarr"
    command = ["convert", str(raw), str(target), "--dry-run"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"{target}: would be created" in said
    assert "from 14 files; 1 slot without a file to fill" in said
    assert said.endswith("nothing was written\n")
    assert not target.exists()
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    main(command)
    assert "it may not fit" in capsys.readouterr().out
    target.mkdir()
    (target / "thesis.docx").touch()
    assert main(command) == 1
    assert "would be refused" in capsys.readouterr().out
    assert main([*command, "--follow"]) == 1
    capsys.readouterr()
    command[2] = str(tmp_path / "other.zarr")
    assert main([*command, "--restorable", "--part", "2/3"]) == 0
    said = capsys.readouterr().out
    assert "can be written back: 14 files" in said
    assert "kept beside the pixels: at most" in said
    assert "part 2 of 3 has to write: " in said
    assert "left to other parts: " in said

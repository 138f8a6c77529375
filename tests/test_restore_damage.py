"""Damages of a store, done to it for real: each names the files that they meet, and no others."""

from __future__ import annotations

import os
import re
import shutil
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr
from cloud import objects, serving
from conftest import dataset, reference_name, write, write_acquisition
from test_restore import cells, hashes, save, write_long_texts
from test_tiff import stack

from xarray_tiffstack import restore
from xarray_tiffstack.array.complete import complete_files
from xarray_tiffstack.back.keeping import keeping
from xarray_tiffstack.cli import main
from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.settings import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import xarray as xr

# Words of libraries, which say nothing to a biologist.
FOREIGN = re.compile(r"[A-Z]+_[A-Z]+|blosc|[Zz]std|checksum|decompress|JSON|double quotes|entry \(")


def cut(path: Path) -> None:
    """Cut off the second half of a file."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Change a byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    path.write_bytes(data)


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    """Leave nothing of it, as a power failure can."""
    path.write_bytes(b"")


def zeros(path: Path) -> None:
    """Leave its length alone, as a power failure can."""
    path.write_bytes(bytes(path.stat().st_size))


def entry(store: Path, *slot: int, kind: str = "slots") -> Path:
    """Give the first object of what is kept of a file."""
    (found,) = (store / f"tiffstack/files/{kind}").glob(f"*{'.'.join(map(str, slot))}.0")
    return found


def reasons(failed: Any) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in failed)


def saved(tmp_path: Path, **options: Any) -> tuple[Path, Path, xr.Dataset]:
    raw, store = write_acquisition(tmp_path / "raw"), tmp_path / "a.zarr"
    (raw / "Settings.txt").write_text("z steps: 4")
    ds = dataset(raw)
    save(ds, store, levels=1, **options)
    return raw, store, ds


@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("damage", [cut, delete, empty, zeros, flip])
def test_a_damaged_entry_loses_its_file_alone(
    tmp_path: Path, damage: Callable[[Path], None], version: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if (damage, version) == (flip, "0.4"):
        pytest.skip("the codec of Zarr 2 keeps no checksum: see the next test")
    raw, store, ds = saved(tmp_path, ngff_version=version)
    broken = {reference_name(ch, t) for ch, t in [(0, 1), (2, 4)]}
    damage(entry(store, 1, 0))
    damage(entry(store, 4, 2))
    done, checked = restore(store, tmp_path / "back"), restore(store, check=True)
    proof = ds.tiffstack.verify(store, restorable=True).restorable
    lost = "the store does not keep it"
    said = lost if damage is delete else "beside its pixels is damaged (cut off or changed)"
    for failed in (done.failed, checked.failed, proof.failed):
        assert set(reasons(failed)) == broken
        assert all(said in reason for reason in reasons(failed).values())
    assert (done.written, checked.written) == (14, 14)
    assert hashes(tmp_path / "back") == {n: h for n, h in hashes(raw).items() if n not in broken}
    assert not FOREIGN.search(f"{done} {checked} {proof}")
    # Only files that are chosen count.
    assert restore(store, tmp_path / "some", sel={"stack": 2}).ok
    assert not restore(store, tmp_path / "some", sel={"stack": 1}).ok
    assert main(["restore", str(store), str(tmp_path / "back"), "--quiet"]) == 4
    assert main(["verify", str(raw), str(store), "--restorable", "--quiet"]) == 4
    assert "2 of 16 files" in capsys.readouterr().out
    # The raw files are still there: converting again mends, and writes no pixels.
    again = ds.tiffstack.to_ome_zarr(store, restorable=True, levels=1, ngff_version=version)
    assert (again.written, again.kept.files, again.kept.left) == (0, 16, ())
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)
    assert ds.tiffstack.verify(store, restorable=True).restorable.ok


def test_a_changed_entry_without_a_checksum(tmp_path: Path) -> None:
    """Whatever comes of it, the bytes of a file are never others than they were."""
    raw, store, ds = saved(tmp_path, ngff_version="0.4")
    path = entry(store, 1, 0)
    good, before = path.read_bytes(), hashes(raw)
    for at in range(0, len(good), 9):
        path.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
        done = restore(store, tmp_path / str(at))
        there = hashes(tmp_path / str(at))
        assert len(there) == done.written >= 15
        sums = {found for found, _ in before.values()}
        assert {found for found, _ in there.values()} <= sums
        assert not FOREIGN.search(str(done))
    ds.tiffstack.to_ome_zarr(store, restorable=True, levels=1, ngff_version="0.4", overwrite=True)
    assert restore(store, tmp_path / "back").ok


@pytest.mark.parametrize("damage", [cut, delete, flip])
def test_a_damaged_entry_of_a_file_in_no_slot(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Its name is known to its entry alone: it is counted, and compared with the folder."""
    raw, store, ds = saved(tmp_path)
    damage(entry(store, 0, kind="others"))
    done = restore(store, tmp_path / "back")
    assert done.written == 15
    if damage is delete:  # then nothing says that there was one, but the folder
        assert done.ok
    else:
        assert "a file in no slot, number 1 of 1: " in done.failed[0]
    proof = ds.tiffstack.verify(store, restorable=True).restorable
    assert set(reasons(proof.failed)) == {"Settings.txt"}
    assert ds.tiffstack.to_ome_zarr(store, restorable=True, levels=1).kept.files == 16
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)


@pytest.mark.parametrize("damage", [cut, empty, flip])
@pytest.mark.parametrize("options", [{}, {"shards": "auto"}, {"ngff_version": "0.4"}])
def test_a_damaged_chunk_loses_its_file_alone(
    tmp_path: Path, damage: Callable[[Path], None], options: dict[str, Any]
) -> None:
    raw, store, ds = saved(tmp_path, chunks={"z": 2}, **options)
    chunk = next(
        p for p in sorted(store.glob("0/image/**/*")) if p.is_file() and p.name.isdecimal()
    )
    damage(chunk)
    done = restore(store, tmp_path / "back")
    (name,) = reasons(done.failed)
    assert name == reference_name(0, 0)
    assert "is damaged (cut off or changed)" in done.failed[0]
    assert done.written == 15
    result = ds.tiffstack.verify(store, restorable=True)
    assert not result.ok
    assert set(reasons(result.restorable.failed)) == {name}
    assert not FOREIGN.search(f"{done} {result}".replace("another checksum", ""))
    assert ds.tiffstack.to_ome_zarr(
        store, restorable=True, levels=1, chunks={"z": 2}, **options
    ).written  # fmt: skip
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)


@pytest.mark.parametrize(
    ("what", "lost"),
    [
        ("tiffstack/files/slots/zarr.json", 15),
        ("tiffstack/files/others/zarr.json", 1),
        ("0/image/zarr.json", 15),
        ("0/path/zarr.json", 1),
        ("0/path/c/0/0", 1),
    ],
)
@pytest.mark.parametrize("damage", [cut, delete])
def test_what_describes_arrays_may_be_damaged(
    tmp_path: Path, what: str, lost: int, damage: Callable[[Path], None]
) -> None:
    raw, store, ds = saved(tmp_path)
    damage(store / what)
    if (damage, what) == (delete, "0/path/c/0/0"):
        lost = 0  # then there are no names, which is what is said of an acquisition without files
    done = restore(store, tmp_path / "back")
    assert len(done.failed) == lost
    assert done.ok == (not lost)
    assert done.written == {15: 1, 1: 15 if "others" in what else 16, 0: 16}[lost]
    assert not FOREIGN.search(str(done))
    assert not FOREIGN.search(str(ds.tiffstack.verify(store, restorable=True)))
    if "path" in what and lost:
        with pytest.raises(ValueError, match="files cannot be chosen by sel"):
            restore(store, tmp_path / "back", sel={"stack": 1})
    ds.tiffstack.to_ome_zarr(store, restorable=True, levels=1)
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)


@pytest.mark.parametrize("damage", [cut, zeros, empty])
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_a_damaged_root_keeps_no_file_back(
    tmp_path: Path, damage: Callable[[Path], None], version: str
) -> None:
    raw, store, _ = saved(tmp_path, ngff_version=version)
    damage(store / ("zarr.json" if version == "0.5" else ".zattrs"))
    cut(entry(store, 2, 1))
    done = restore(store, tmp_path / "back")
    assert set(reasons(done.failed)) == {reference_name(1, 2)}
    assert hashes(tmp_path / "back").items() < hashes(raw).items()
    assert done.written == 15
    assert restore(store, tmp_path / "some", sel={"stack": 4}).ok


def test_damage_behind_the_beginning_of_a_long_entry(tmp_path: Path) -> None:
    """What is kept of a file is several objects of the store: any of them may be damaged."""
    raw, store = tmp_path / "raw", tmp_path / "a.zarr"
    write_long_texts(raw, 3, 3)
    ds = cells(raw, pages="z")
    save(ds, store)
    flip(store / "tiffstack/files/slots/c.1.1")
    delete(store / "tiffstack/files/slots/c.2.1")
    done = restore(store, tmp_path / "back")
    assert set(reasons(done.failed)) == {"cell_t1.tif", "cell_t2.tif"}
    assert not [p for p in (tmp_path / "back").iterdir() if p.name != "cell_t0.tif"]
    delete(store / "tiffstack/files/slots/c.2.0")  # of a gap alone, converting again sees nothing
    ds.tiffstack.to_ome_zarr(store, restorable=True)
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)


def test_names_of_images_in_groups(tmp_path: Path) -> None:
    """Slots are counted over all images, also where a file is in several of them."""
    raw, store = tmp_path / "raw", tmp_path / "a.zarr"
    for number, (pos, t, ch) in enumerate(product("ab", range(3), range(2))):
        write(raw / f"pos-{pos}" / f"img_t{t}_ch{ch}.tif", number)
    (raw / "pos-a" / "img_t1_ch1.tif").unlink()
    ds = dataset(raw, pattern="pos-{position:l}/img_t{t:d}_ch{ch:d}.tif")
    save(ds.transpose("z", "t", "y", "x", ...), store)
    slots: Any = zarr.open_array(store, path="tiffstack/files/slots", mode="r")
    dims = [dim.removesuffix("_slot") for dim in slots.metadata.dimension_names[:-1]]
    for path in (store / "tiffstack/files/slots").glob("c.*"):
        at = dict(zip(dims, map(int, path.name.split(".")[1:-1]), strict=True))
        name = Path(ds.path.isel(at).item()).relative_to(raw).as_posix()
        good = path.read_bytes()
        cut(path)
        assert set(reasons(restore(store, check=True).failed)) == {name}
        path.write_bytes(good)
    shutil.rmtree(raw)
    assert restore(store, raw).written == 11


def test_names_where_a_file_is_in_several_images(tmp_path: Path) -> None:
    raw, store = tmp_path / "raw", tmp_path / "a.zarr"
    raw.mkdir()
    for t in range(3):
        tifffile.imwrite(raw / f"cell_t{t}.tif", stack(2, 3, 5, 12, 14) + t, photometric=1)
    save(cells(raw), store)
    cut(entry(store, 1))
    assert set(reasons(restore(store, check=True).failed)) == {"cell_t1.tif"}


def test_more_than_five_are_counted(tmp_path: Path) -> None:
    _, store, _ = saved(tmp_path)
    for t in range(3):
        for ch in range(3):
            (cut if ch else delete)(entry(store, t, ch))
    said = str(restore(store, check=True))
    assert "9 files not:" in said
    assert "... and 4 more" in said
    assert "verify, then convert again" in said


def test_another_file_that_came_does_not_take_the_place_of_one(tmp_path: Path) -> None:
    """Files in no slot are numbered by their size: one that is new must not push out another."""
    raw, store, ds = saved(tmp_path)
    (raw / "a small one").write_text("!")
    again = ds.tiffstack.to_ome_zarr(store, restorable=True, levels=1)
    assert [line.split(":")[0] for line in again.kept.left] == ["a small one"]
    assert "came since" in again.kept.left[0]
    done = restore(store, tmp_path / "back")
    assert done.written == 16
    assert (tmp_path / "back" / "Settings.txt").is_file()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("moto") / "log") as address:
        yield address


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("engine", ["auto", "zarr"])
def test_damages_of_a_store_in_the_cloud(tmp_path: Path, bucket: str, engine: str) -> None:
    import s3fs

    raw, name = write_acquisition(tmp_path / "raw"), f"damage-{engine}.zarr"
    store, ds = f"{bucket}/{name}", dataset(raw)

    def again() -> Any:
        keeper = keeping(complete_files(ds), False)
        return convert(ds, store, Options(levels=1), engine=engine, keeper=keeper)

    again()
    cloud = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"], key="a", secret="b")
    kept = sorted(key for key in objects(name, names=True) if "/files/slots/c" in key)
    chunks = sorted(key for key in objects(name, names=True) if "/image/c" in key)
    for at, damaged in ((2, lambda data: data[:20]), (5, lambda data: data[:-9] + b"x" * 9)):
        path = f"bucket/{name}/{kept[at]}".replace(f"{name}/{name}", name)
        cloud.pipe(path, damaged(cloud.cat(path)))
    cloud.pipe(f"bucket/{name}/{chunks[14]}".replace(f"{name}/{name}", name), b"half")
    done = restore(store, tmp_path / "back")
    wanted = {reference_name(*at) for at in [(2, 0), (2, 1), (2, 4)]}
    assert set(reasons(done.failed)) == wanted
    assert done.written == 12
    result = ds.tiffstack.verify(store, restorable=True)
    assert set(reasons(result.restorable.failed)) == wanted
    assert not FOREIGN.search(f"{done} {result}")
    assert again().written == 1
    assert restore(store, tmp_path / "back").ok
    assert hashes(tmp_path / "back") == hashes(raw)


def test_a_fault_of_the_store_is_no_damage(tmp_path: Path) -> None:
    """What may not be read is told as that: nothing is said to be lost."""
    if not hasattr(os, "geteuid") or not os.geteuid():
        pytest.skip("root may read all")
    _, store, _ = saved(tmp_path)
    entry(store, 1, 0).chmod(0)
    done = restore(store, check=True)
    assert "cannot be read" in done.failed[0]
    assert np.size(done.failed) == 1

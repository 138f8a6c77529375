"""Tiny real acquisitions whose pixels say where they belong."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import fields
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import xarray as xr
import yaozarrs
import zarr

from xarray_tiffstack.ome_zarr.convert import convert
from xarray_tiffstack.ome_zarr.settings import Limits, Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zarr.abc.store import Store

    from xarray_tiffstack.ome_zarr import Summary

SHAPE = (4, 6, 8)  # z, y, x of one file
WAVELENGTHS = (488, 560, 642)
ONE_FILE_A_BLOCK = Limits(small=1)  # tiny files are otherwise read many at a time
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pixels(cell: int, shape: tuple[int, ...] = SHAPE, dtype: str = "uint16") -> np.ndarray:
    """Pixels of the file in the `cell`-th cell: every value occurs once in the acquisition."""
    size = int(np.prod(shape))
    return (np.arange(size).reshape(shape) + cell * size).astype(dtype)


def write(path: Path, cell: int, shape: tuple[int, ...] = SHAPE, **options: object) -> Path:
    """Write the file of a cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, pixels(cell, shape), metadata=None, **options)
    return path


def reference_name(ch: int, stack: int, *, x: int = 0, y: int = 0, z: int = 0) -> str:
    """File name in the style of the lattice light-sheet microscope that this grew up with."""
    msec = 43748 * stack + 7 * ch
    return (
        f"ex6-2_CamA_ch{ch}_CAM1_stack{stack:04d}_{WAVELENGTHS[ch]}nm_{msec:07d}msec_"
        f"{1335543 + msec:010d}msecAbs_{x:03d}x_{y:03d}y_{z:03d}z_0000t.tif"
    )


def write_acquisition(folder: Path, stacks: int = 5, **options: object) -> Path:
    """Write 3 channels x `stacks` files; cell = ch * stacks + stack."""
    for ch, stack in product(range(3), range(stacks)):
        write(folder / reference_name(ch, stack), ch * stacks + stack, **options)
    return folder


@pytest.fixture
def acquisition(tmp_path: Path) -> Path:
    """Folder of 3 channels x 5 stacks."""
    return write_acquisition(tmp_path / "raw")


@pytest.fixture(scope="session")
def shared_acquisition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 3 channels x 5 stacks that no test changes."""
    return write_acquisition(tmp_path_factory.mktemp("shared") / "raw")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real TIFF sequences from public repositories."""
    if not DATA.is_dir():
        pytest.skip("the real TIFF sequences are not beside this checkout")
    return DATA


@pytest.fixture(autouse=True)
def _no_file_left_open() -> Iterator[None]:
    """No TIFF stays open after a test."""
    yield
    # Other threads of icechunk may still read when one of them has met an error.
    deadline = time.monotonic() + 10
    while (left := _open_tiffs()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def _open_tiffs() -> list[str]:
    """TIFFs that this process has open."""
    found = []
    fds = Path("/proc/self/fd")
    for fd in fds.iterdir() if fds.is_dir() else ():
        with suppress(OSError):
            found.append(os.readlink(fd))
    return [path for path in found if path.lower().endswith((".tif", ".tiff"))]


def dataset(folder: Path, **options: Any) -> xr.Dataset:
    """Open a folder."""
    return xr.open_dataset(folder, engine="tiffstack", **options)


def tree(store: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def to_ome_zarr(ds: xr.Dataset, store: Any, **options: Any) -> Summary:
    """Convert, and have other people's validators pass the store.

    Takes also ``limits`` (how the work is cut) and ``engine`` (who writes pixels) of `convert`.
    """
    names = [field.name for field in fields(Options)]
    layout = Options(**{name: options.pop(name) for name in names if name in options})
    options["check"] = options.pop("verify", False)
    summary = convert(ds, store, layout, **options)
    validate(store)
    return summary


def validate(store: Path | str | Store) -> None:
    """Pass a store by yaozarrs, and by ome-zarr-models where that is installed.

    0.6 is known to the latter alone, from version 1.8 on.
    """
    group = zarr.open_group(store, mode="r")
    new = dict(group.attrs).get("ome", {}).get("version") == "0.6"
    if isinstance(store, Path) and not new:
        yaozarrs.validate_zarr_store(store)
    if find_spec("ome_zarr_models") and not (new and find_spec("ome_zarr_models.v06") is None):
        from ome_zarr_models import open_ome_zarr

        if "OME" in group:  # it has no model of a collection in 0.5
            attrs = dict(group["OME"].attrs)
            for path in attrs.get("ome", attrs)["series"]:
                open_ome_zarr(group[path])
        else:
            open_ome_zarr(group)


class _Opened:
    """Hears which TIFFs this process opens, by the interpreter's audit events."""

    def __init__(self) -> None:
        self.tell: Callable[[str], object] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        if event == "open" and self.tell is not None and isinstance(args[0], (str, bytes)):
            path = os.fsdecode(args[0])
            if path.lower().endswith((".tif", ".tiff")):
                self.tell(path)


_OPENED = _Opened()


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of the TIFFs opened since the test began; clear it to begin again."""
    paths: list[str] = []
    _OPENED.tell = paths.append
    yield paths
    _OPENED.tell = None


@pytest.fixture
def when_opened() -> Iterator[Callable[[Callable[[str], object]], None]]:
    """Have something called with the path of each TIFF that is opened."""
    yield lambda call: setattr(_OPENED, "tell", call)
    _OPENED.tell = None


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is heard: a shell starts what runs in the background deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

"""Tiny real acquisitions whose pixels say where they belong."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zarr.abc.store import Store

SHAPE = (4, 6, 8)  # z, y, x of one file
WAVELENGTHS = (488, 560, 642)
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
    fds = Path("/proc/self/fd")
    if not fds.is_dir():
        return
    left = []
    for fd in fds.iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.lower().endswith((".tif", ".tiff")):
            left.append(target)
    assert not left


def validate(store: Path | str | Store) -> None:
    """Pass a store by yaozarrs and ome-zarr-models, where these are installed."""
    if find_spec("yaozarrs") and isinstance(store, Path):
        import yaozarrs

        yaozarrs.validate_zarr_store(store)
    if find_spec("ome_zarr_models"):
        from ome_zarr_models import open_ome_zarr

        group = zarr.open_group(store, mode="r")
        if "OME" in group:  # it has no model of a collection in 0.5
            attrs = dict(group["OME"].attrs)
            for path in attrs.get("ome", attrs)["series"]:
                open_ome_zarr(group[path])
        else:
            open_ome_zarr(group)


class _Opened:
    """Counts the files that this process opens, as the interpreter's audit events tell."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        if event == "open" and self.paths is not None and isinstance(args[0], (str, bytes)):
            path = os.fsdecode(args[0])
            if path.lower().endswith((".tif", ".tiff")):
                self.paths.append(path)


_OPENED = _Opened()


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Paths of the TIFFs opened since the test began; clear it to begin again."""
    _OPENED.paths = []
    yield _OPENED.paths
    _OPENED.paths = None

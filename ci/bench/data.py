"""The acquisitions that are measured, written into a folder that is removed afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLANE = (1024, 768)
STACK = (201, *PLANE)
WAVELENGTHS = (488, 560, 642)
STORES = 12 * 2**30  # bytes that all stores of the benchmark fit into
LINKS = 50_000  # a file on ext4 has at most 65,000 names

# How the planes of the compressed stacks are written; BigTIFF is uncompressed.
STORAGE: dict[str, dict[str, object]] = {
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "deflate"},
    "zstd": {"compression": "zstd"},
    "deflate tiled": {"compression": "deflate", "tile": (256, 256)},
    "lzw predictor": {"compression": "lzw", "predictor": True},
    "zstd BigTIFF": {"compression": "zstd", "bigtiff": True},
}


def reference_names(stacks: int) -> Iterator[str]:
    """Names of an acquisition of three channels, as the reference microscope writes them."""
    for stack, (ch, nm) in product(range(stacks), enumerate(WAVELENGTHS)):
        msec = 43748 * stack + 7 * ch
        yield (
            f"ex6-2_CamA_ch{ch}_CAM1_stack{stack:04d}_{nm}nm_{msec:07d}msec_"
            f"{1335543 + msec:010d}msecAbs_000x_000y_000z_0000t.tif"
        )


def plane_names(wells: int = 25) -> Iterator[str]:
    """Names of a screen of single planes, of five tokens: time, well, field, channel, z."""
    numbers = [range(1, n + 1) for n in (1000, wells, 2, 4, 10)]
    for t, well, f, c, z in product(*numbers):
        yield f"screen_B{well:02d}_T{t:04d}F{f:03d}L01A01Z{z:02d}C{c:02d}.tif"


def noisy(pages: int, shape: tuple[int, int] = PLANE, seed: int = 0) -> np.ndarray:
    """Camera-like pixels: an offset and a few bits of noise, hardly compressible.

    There are 16 planes; when they come again they are shifted, so that no codec finds them.
    """
    planes = np.random.default_rng(seed).normal(100, 8, (16, *shape)).clip(0).astype("uint16")
    shifts = [(37 * turn, 53 * turn) for turn in range(-(-pages // 16))]
    turns = [np.roll(planes, shift, (1, 2)) for shift in shifts]
    return np.concatenate(turns)[:pages]


def write(path: Path, pixels: np.ndarray, **storage: object) -> None:
    """Write a stack as a microscope does: no description, each page by its directory."""
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, **storage)


def write_hollow(path: Path, shape: tuple[int, int, int] = STACK) -> None:
    """Write a stack of zeros that takes no disk, each directory before its own page."""
    with tifffile.TiffWriter(path) as tif:
        for _ in range(shape[0]):
            tif.write(
                None,
                shape=shape[1:],
                dtype="uint16",
                photometric="minisblack",
                metadata=None,
                contiguous=False,
            )


def link(files: Sequence[Path], folder: Path, names: Iterator[str]) -> Path:
    """Give a few files, in turn, many names in a new folder."""
    folder.mkdir()
    for i, name in enumerate(names):
        os.link(files[i % len(files)], folder / name)
    return folder


@dataclass
class Workshop:
    """Makes each acquisition when it is first asked for."""

    folder: Path
    quick: bool = False
    """Fewer rounds and files."""
    small: bool = False
    """A few tiny files instead, to test the benchmark itself."""

    def rounds(self, full: int) -> int:
        """Rounds of a race."""
        return max(1, full // 4) if self.quick else full

    def sized(self, full: int, quick: int, small: int) -> int:
        """Choose how many."""
        return small if self.small else quick if self.quick else full

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Of one reference file."""
        return (5, 32, 48) if self.small else STACK

    @cached_property
    def nbytes(self) -> int:
        """Pixels of one reference file, in bytes."""
        return 2 * int(np.prod(self.shape))

    def hollow(self, stacks: int) -> Path:
        """Make 3 channels x any number of stacks, all names of a file of zeros (or a few)."""
        folder = self.folder / f"hollow{stacks}"
        if not folder.exists():
            files = [self.folder / f"{folder.name}-{i}" for i in range(-(-3 * stacks // LINKS))]
            for path in files:
                write_hollow(path, self.shape)
            link(files, folder, reference_names(stacks))
        return folder

    @cached_property
    def reference(self) -> Path:
        """The reference acquisition, 3 channels x 199 stacks."""
        folder = self.hollow(15 if self.small else 199)
        next(folder.iterdir()).read_bytes()  # into the page cache
        return folder

    @cached_property
    def noisy(self) -> Path:
        """A few stacks of camera-like pixels, in the page cache."""
        folder = self.folder / "noisy"
        folder.mkdir()
        for i, name in enumerate(reference_names(1 if self.quick else 2)):
            write(folder / name, noisy(self.shape[0], self.shape[1:], i))
            (folder / name).read_bytes()
        return folder

    def noisy_as(self, name: str, stacks: int) -> Path:
        """Make 3 channels x any number of stacks of the noisy files."""
        return link(sorted(self.noisy.iterdir()), self.folder / name, reference_names(stacks))

    def thin(self, files: int, pages: int = 4) -> Path:
        """Make many names of one file of a few camera-like planes."""
        path = self.folder / f"thin{files}.tif"
        write(path, noisy(pages, self.shape[1:]))
        names = islice(reference_names(-(-files // 3)), files)
        return link([path], self.folder / f"thin{files}", names)

    def planes(self, files: int, shape: tuple[int, int]) -> Path:
        """Make files of one plane each, all names of a few."""
        sources = [self.folder / f"planes{files}-{i}" for i in range(-(-files // LINKS))]
        for i, path in enumerate(sources):
            write(path, noisy(1, shape, i)[0])
        names = islice(plane_names(2 if self.small else 25), files)
        return link(sources, self.folder / f"planes{files}", names)

    @cached_property
    def compressed(self) -> dict[str, Path]:
        """By kind of storage, four names of one stack of camera-like pixels."""
        made = {}
        pages = self.sized(48, 16, 5)
        for i, (kind, storage) in enumerate(STORAGE.items()):
            path = self.folder / f"{kind}.tif"
            write(path, noisy(pages, self.shape[1:], i), **storage)
            names = islice(reference_names(2), 4)
            made[kind] = link([path], self.folder / kind.replace(" ", "_"), names)
        return made

    @cached_property
    def memory(self) -> Path:
        """Where stores are written: in memory where there is room, so that no disk is measured."""
        memory = Path("/dev/shm")
        if not memory.is_dir() or shutil.disk_usage(memory).free < STORES:
            return self.folder
        self._in_memory = tempfile.TemporaryDirectory(prefix="tiffstack-bench-", dir=memory)
        return Path(self._in_memory.name)

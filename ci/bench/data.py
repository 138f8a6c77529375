"""The acquisitions that are measured, written into a folder that is removed afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterator

PLANE = (1024, 768)
STACK = (201, *PLANE)
WAVELENGTHS = (488, 560, 642)
STORES = 12 * 2**30  # bytes that all stores of the benchmark fit into
LINKS = 50_000  # a file on ext4 has at most 65,000 names; one has those of several folders

# How the planes of the compressed stacks are written; BigTIFF is uncompressed.
STORAGE: dict[str, dict[str, object]] = {
    "lzw": {"compression": "lzw"},
    "deflate": {"compression": "deflate"},
    "zstd": {"compression": "zstd"},
    "deflate tiled": {"compression": "deflate", "tile": (256, 256)},
    "lzw predictor": {"compression": "lzw", "predictor": True},
    "zstd BigTIFF": {"compression": "zstd", "bigtiff": True},
}


def reference_names(stacks: int, x: int = 0, y: int = 0) -> Iterator[str]:
    """Names of an acquisition of three channels, as the reference microscope writes them."""
    for stack, (ch, nm) in product(range(stacks), enumerate(WAVELENGTHS)):
        msec = 43748 * stack + 7 * ch
        yield (
            f"ex6-2_CamA_ch{ch}_CAM1_stack{stack:04d}_{nm}nm_{msec:07d}msec_"
            f"{1335543 + msec:010d}msecAbs_{x:03d}x_{y:03d}y_000z_0000t.tif"
        )


def plane_names(wells: int = 25) -> Iterator[str]:
    """Names of a screen of single planes, five tokens deep (time, well, field, channel, z)."""
    named = [f"{row}{column:02d}" for row in "ABCDE" for column in range(1, 6)]
    cells = product(range(1, 1001), named[:wells], range(1, 3), range(1, 5), range(1, 11))
    for t, well, f, c, z in cells:
        yield f"screen_{well}_T{t:04d}F{f:03d}L01A01Z{z:02d}C{c:02d}.tif"


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


def link(files: list[Path], folder: Path, names: Iterator[str]) -> Path:
    """Give the same files many names in a new folder."""
    folder.mkdir()
    for i, name in enumerate(names):
        os.link(files[i // LINKS], folder / name)
    return folder


@dataclass
class Workshop:
    """Makes each acquisition when it is first asked for."""

    folder: Path
    quick: bool
    small: bool = False
    """A few minute files instead, to try the program itself."""

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Of one reference file."""
        return (5, 32, 48) if self.small else STACK

    @cached_property
    def stack(self) -> Path:
        """One hollow reference file, in the page cache."""
        path = self.folder / "stack.tif"
        write_hollow(path, self.shape)
        path.read_bytes()
        return path

    @cached_property
    def reference(self) -> Path:
        """3 channels x 199 stacks."""
        return self.links("reference", 15 if self.small else 199)

    def links(self, name: str, stacks: int) -> Path:
        """Make 3 channels x any number of stacks, all the hollow file."""
        files = [self.stack]
        while len(files) * LINKS < 3 * stacks:
            files.append(self.folder / f"stack{len(files)}.tif")
            write_hollow(files[-1], self.shape)
        return link(files, self.folder / name, reference_names(stacks))

    def stacks(self, pages: int) -> Path:
        """Make 3 channels x 12 stacks of files of any length, all one hollow file."""
        path = self.folder / f"pages{pages}.tif"
        write_hollow(path, (pages, *self.shape[1:]))
        return link([path], self.folder / f"stacks{pages}", reference_names(12))

    @cached_property
    def tiles(self) -> Path:
        """2 x 2 tiles of 3 channels x 2 stacks, all the hollow file."""
        names = [reference_names(2, x, y) for x, y in product(range(2), range(2))]
        return link([self.stack], self.folder / "tiles", chain.from_iterable(names))

    @cached_property
    def noisy(self) -> Path:
        """A few stacks of real pixels, in the page cache."""
        folder = self.folder / "noisy"
        folder.mkdir()
        stacks = 1 if self.quick else 2
        for i, name in enumerate(reference_names(stacks)):
            write(folder / name, noisy(self.shape[0], self.shape[1:], i))
            (folder / name).read_bytes()
        return folder

    @cached_property
    def noisy_twice(self) -> Path:
        """The same under twice as many names."""
        return self.noisy_as("noisy_twice", 2 * len(list(self.noisy.iterdir())) // 3)

    def noisy_as(self, name: str, stacks: int) -> Path:
        """Make 3 channels x any number of stacks of the noisy files, in turn."""
        folder = self.folder / name
        folder.mkdir()
        files = sorted(self.noisy.iterdir())
        for i, each in enumerate(reference_names(stacks)):
            os.link(files[i % len(files)], folder / each)
        return folder

    @cached_property
    def stores(self) -> Path:
        """Where stores are written: in memory where there is room, so that no disk is measured."""
        memory = Path("/dev/shm")
        if not memory.is_dir() or shutil.disk_usage(memory).free < STORES:
            return self.folder
        self._in_memory = tempfile.TemporaryDirectory(prefix="tiffstack-bench-", dir=memory)
        return Path(self._in_memory.name)

    def thin(self, files: int) -> Path:
        """Many files of four real planes, all links to one."""
        path = self.folder / f"thin{files}.tif"
        write(path, noisy(4, self.shape[1:]))
        names = islice(reference_names(-(-files // 3)), files)
        return link([path], self.folder / f"thin{files}", names)

    @cached_property
    def compressed(self) -> dict[str, Path]:
        """By kind of storage, a few stacks of real pixels."""
        made = {}
        pages = 5 if self.small else 16 if self.quick else 48
        for i, (kind, storage) in enumerate(STORAGE.items()):
            folder = self.folder / kind.replace(" ", "_")
            folder.mkdir()
            names = list(islice(reference_names(2), 4))
            pixels = noisy(pages, self.shape[1:], i)
            write(folder / names[0], pixels, **storage)
            for name in names[1:]:
                os.link(folder / names[0], folder / name)
            made[kind] = folder
        return made

    @cached_property
    def planes(self) -> Path:
        """100,000 files of one small plane each: 50 times, 25 wells, 2 fields, 4 channels, 10 z."""
        if self.small:
            return self.plane_files("planes", 320, (64, 64), wells=2)
        return self.plane_files("planes", 100_000, (64, 64))

    def plane_files(self, name: str, files: int, shape: tuple[int, int], wells: int = 25) -> Path:
        """Make files of one plane each, all links to a few."""
        sources = [self.folder / f"{name}{i}.tif" for i in range(-(-files // LINKS))]
        for i, path in enumerate(sources):
            write(path, noisy(1, shape, i)[0])
        return link(sources, self.folder / name, islice(plane_names(wells), files))

"""The files that an index refers to: their sizes and times, and which of them have changed."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.ome_zarr.journal import NOTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zarr

GROUP = f"{NOTES}/files"
_MANY = 4096  # files from which on several are looked at together: a file server takes its time
_CLOCK = 0.05  # seconds that the clock of a file system may be behind


@dataclass(frozen=True, eq=False)
class Files:
    """The files of an index, in the state in which they were indexed."""

    root: str
    """Folder that the paths begin at."""
    paths: tuple[str, ...]
    """Relative to it, with "/"."""
    sizes: np.ndarray
    """Bytes."""
    times: np.ndarray
    """When each was last changed, in nanoseconds since 1970."""

    def changed(self, root: str | os.PathLike[str] | None = None) -> list[str]:
        """Say which files are gone, or have another size or time; one ``stat`` of each."""
        root = self.root if root is None else os.fspath(root)
        now = look([os.path.join(root, path) for path in self.paths])
        lines = []
        for path, size, at, found in zip(self.paths, self.sizes, self.times, now, strict=True):
            if found is None:
                lines.append(f"{path} is not there")
            elif found[0] != size:
                lines.append(f"{path} has {found[0]:,} bytes, and had {int(size):,}")
            elif found[1] != at:
                lines.append(f"{path} was written at {_when(found[1])}, and before at {_when(at)}")
        return lines

    def check(self, root: str, index: object) -> None:
        """Raise unless all files are as they were indexed."""
        if changed := self.changed(root):
            raise ValueError(
                f"{len(changed)} of {counted(len(self.paths), 'file')} changed since {index} was "
                f"made:\n{first_lines(changed)}\n"
                "Put back what they were, or index them again with overwrite=True (--overwrite)."
            )

    def write(self, group: zarr.Group, index: str) -> None:
        """Keep them in a store, with the way from the index to the folder."""
        about = group.require_group(GROUP)
        attributes: dict[str, Any] = {"root": self.root}
        relative = _relative(self.root, os.path.dirname(index))
        about.update_attributes(attributes | ({"relative": relative} if relative else {}))
        text = "\0".join(self.paths).encode()
        for name, dim, values in (
            ("path", "byte", np.frombuffer(text, np.uint8)),
            ("size", "file", self.sizes),
            ("mtime_ns", "file", self.times),
        ):
            third = group.metadata.zarr_format == 3
            array: Any = about.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                dimension_names=[dim] if third else None,
                attributes=None if third else {"_ARRAY_DIMENSIONS": [dim]},
            )
            array[...] = values


def read_files(group: zarr.Group, index: str) -> Files:
    """Read what an index says of its files; its folder is looked for where it may be now."""
    try:
        about: Any = group[GROUP]
    except KeyError:
        raise ValueError(f"{index} is no index that to_virtual wrote") from None
    paths = bytes(np.asarray(about["path"][...])).decode()
    root = str(about.attrs["root"])
    relative = about.attrs.get("relative")
    beside = os.path.normpath(os.path.join(os.path.dirname(index), relative)) if relative else root
    # Moved together, they are still side by side; what is at the old place may be another copy.
    root = beside if os.path.isdir(beside) else root
    return Files(root, tuple(paths.split("\0")), about["size"][...], about["mtime_ns"][...])


def _relative(root: str, start: str) -> str | None:
    try:
        return Path(os.path.relpath(root, start)).as_posix()
    except ValueError:  # on another drive of Windows
        return None


def _when(nanoseconds: int) -> str:
    seconds, rest = divmod(int(nanoseconds), 10**9)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest:09d}"


def look(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    """Size and time of change of each file; None where there is none."""
    if len(paths) < _MANY:
        return _looks(paths)
    step = -(-len(paths) // 16)
    with ThreadPoolExecutor(16) as pool:
        parts = (paths[i : i + step] for i in range(0, len(paths), step))
        return list(chain.from_iterable(pool.map(_looks, parts)))


def _looks(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for path in paths:
        try:
            stat = os.stat(path)
            found.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


def settle(paths: Sequence[str]) -> list[tuple[int, int] | None]:
    """Look at files when the last change of each is more than a second ago.

    icechunk knows times in seconds: of a file that is changed twice in one second it would notice
    the first time only. So who indexes a file that was just written waits, at most a second.
    """
    found = look(paths)
    latest = max((at for _, at in filter(None, found)), default=0)
    rest = whole_second(latest) - time.time()
    if 0 < rest <= 1:
        time.sleep(rest + _CLOCK)
        return look(paths)
    return found


def whole_second(nanoseconds: int) -> int:
    """Give the second that a time is in, or the next one: not before it, in whole seconds."""
    return -(-int(nanoseconds) // 10**9)

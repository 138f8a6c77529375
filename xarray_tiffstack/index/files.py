"""The files that an index refers to: their sizes and times, and which of them have changed."""

from __future__ import annotations

import os
import posixpath
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import numpy as np

from xarray_tiffstack.messages import counted, first_lines
from xarray_tiffstack.ome_zarr.journal import NOTES
from xarray_tiffstack.storage import dated, is_url, joined, looks, split, together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import zarr

    from xarray_tiffstack.storage.address import Address

GROUP = f"{NOTES}/files"
_MANY = 4096  # files from which on several are looked at together: a file server takes its time
FIRST_LOOK = 64  # files that are read one by one
SLOW_LOOK = 5e-3  # seconds for one file, above which many are read together
_CLOCK = 0.05  # seconds that the clock of a file system may be behind
Item = TypeVar("Item")
Result = TypeVar("Result")
State = tuple[int, int | str]  # size, and time in nanoseconds or ETag


@dataclass(frozen=True, eq=False)
class Files:
    """The files of an index, in the state in which they were indexed."""

    root: str
    """Folder that the paths begin at, or its URL."""
    paths: tuple[str, ...]
    """Relative to it, with "/"."""
    sizes: np.ndarray
    """Bytes."""
    times: np.ndarray
    """When each was last changed, in nanoseconds since 1970; 0 where a server does not say it."""
    tags: tuple[str, ...] = ()
    """The ETag of each object; none of files on a disk."""
    prints: np.ndarray | None = None
    """Hash of samples of each, or of all of it; None where it was not made."""

    def at(self, root: str) -> Files:
        """Give the same files below another folder."""
        return replace(self, root=root)

    def full(self) -> list[str]:
        """Paths or URLs of all."""
        quoted = is_url(self.root) and split(self.root).kind == "http"
        return [joined(self.root, quote(path) if quoted else path) for path in self.paths]

    def seen(self, found: Sequence[State | None], times: Sequence[int]) -> Files:
        """Give the same files in the state that `settle` found, which are all there."""
        sizes, marks = zip(*filter(None, found), strict=True)
        tags = tuple(map(str, marks)) if is_url(self.root) else ()
        lengths, dates = (np.array(each, np.int64) for each in (sizes, times))
        return replace(self, sizes=lengths, times=dates, tags=tags)

    def states(self) -> list[State]:
        """Sizes, and times or ETags."""
        marks = self.tags or self.times.tolist()
        return list(zip(self.sizes.tolist(), marks, strict=True))

    def changed(self) -> list[str]:
        """Say which files are gone, or have another size or time; one ``stat`` of each."""
        lines = []
        for path, before, found in zip(self.paths, self.states(), look(self.full()), strict=True):
            if line := difference(before, found):
                lines.append(f"{path} {line}")
        return lines

    def check(self, index: object) -> None:
        """Raise unless all files are as they were indexed."""
        if changed := self.changed():
            raise ValueError(
                f"{len(changed)} of {counted(len(self.paths), 'file')} changed since {index} was "
                f"made:\n{first_lines(changed)}\n"
                "Put back what they were, or index them again with overwrite=True. "
                "If they are copies of the same files, such as after an upload, the index takes "
                "them when their bytes are compared: tiffstack index SOURCE INDEX --renew "
                "(renew_index)."
            )

    def write(self, group: zarr.Group, index: str) -> None:
        """Keep them in a store, with the way from the index to the folder."""
        about = group.require_group(GROUP)
        attributes: dict[str, Any] = {"root": self.root}
        attributes["relative"] = _relative(self.root, index)
        about.update_attributes(attributes)
        for name, dims, values in (
            ("path", ["byte"], _joined(self.paths)),
            ("size", ["file"], self.sizes),
            ("mtime_ns", ["file"], self.times),
            ("etag", ["etag_byte"], _joined(self.tags)),
            ("print", ["file", "print_byte"], self.prints),
        ):
            if values is None or (name == "etag" and not self.tags):
                if name in about:
                    del about[name]
                continue
            third = group.metadata.zarr_format == 3
            array: Any = about.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                dimension_names=dims if third else None,
                attributes=None if third else {"_ARRAY_DIMENSIONS": dims},
                overwrite=True,
            )
            array[...] = values


def difference(before: State, found: State | None) -> str:
    """Say what is different of a file; nothing where it is as it was."""
    if found is None:
        return "is not there"
    if found[0] != before[0]:
        return f"has {found[0]:,} bytes, and had {before[0]:,}"
    (now, then) = (found[1], before[1])
    if now == then:
        return ""
    if isinstance(now, int) and isinstance(then, int):
        return f"was written at {_when(now)}, and before at {_when(then)}"
    if isinstance(now, str) and isinstance(then, str):
        return f"has the ETag {now}, and had {then}"
    return "is an object" if isinstance(now, str) else "is on a disk, and was an object"


def read_files(group: zarr.Group, index: str) -> Files:
    """Read what an index says of its files; its folder is looked for where it may be now."""
    try:
        about: Any = group[GROUP]
    except KeyError:
        raise ValueError(f"{index} is no index that to_virtual wrote") from None
    return Files(
        _root(about.attrs, index),
        _taken_apart(about, "path"),
        about["size"][...],
        about["mtime_ns"][...],
        _taken_apart(about, "etag") if "etag" in about else (),
        about["print"][...] if "print" in about else None,
    )


def _root(attributes: Any, index: str) -> str:
    """Give the folder of the files: beside the index as before, or where it was."""
    root, relative = str(attributes["root"]), attributes.get("relative")
    if not relative:
        return root
    if is_url(index):
        address = split(index)
        key = posixpath.normpath(f"/{posixpath.dirname(address.key)}/{relative}")
        return f"{address.base}{key}".rstrip("/")
    beside = os.path.normpath(os.path.join(os.path.dirname(index), relative))
    # Moved together, they are still side by side; what is at the old place may be another copy.
    return beside if os.path.isdir(beside) else root


def _joined(texts: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\0".join(texts).encode(), np.uint8)


def _taken_apart(about: Any, name: str) -> tuple[str, ...]:
    return tuple(bytes(np.asarray(about[name][...])).decode().split("\0"))


def _relative(root: str, index: str) -> str | None:
    """Way from the folder of an index to that of the files; None where there is none."""
    if is_url(root) or is_url(index):
        both = [split(each) if is_url(each) else None for each in (root, index)]
        return _relative_key(*both)
    try:
        return Path(os.path.relpath(root, os.path.dirname(index))).as_posix()
    except ValueError:  # on another drive of Windows
        return None


def _relative_key(root: Address | None, index: Address | None) -> str | None:
    if root is None or index is None or root.base != index.base:
        return None
    return posixpath.relpath(f"/{root.key}", posixpath.dirname(f"/{index.key}"))


def _when(nanoseconds: int) -> str:
    seconds, rest = divmod(int(nanoseconds), 10**9)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest:09d}"


def below(paths: Sequence[str], source: str) -> tuple[str, list[str]]:
    """Find the folder of all files, the source where it is one, and their names below it."""
    if not is_url(paths[0]):
        folders = {os.path.dirname(path) for path in paths}
        root = os.path.commonpath(folders)
        source = os.path.abspath(source) if os.path.isdir(source) else root
        if all(folder == source or folder.startswith(source + os.sep) for folder in folders):
            root = source
        start = len(root.rstrip(os.sep)) + 1
        return root, [path[start:].replace(os.sep, "/") for path in paths]
    keys = [split(path).key for path in paths]
    kind, base, _ = split(paths[0])
    folder = posixpath.commonpath([posixpath.dirname(key) for key in keys])
    if is_url(source) and split(source).base == base:
        given = split(source).key
        folder = given if not given or f"{folder}/".startswith(f"{given}/") else folder
    start = len(folder) + 1 if folder else 0
    at = quote(folder) if kind == "http" else folder
    return f"{base}/{at}".rstrip("/"), [key[start:] for key in keys]


def look(paths: Sequence[str]) -> list[State | None]:
    """Size and time of change, or ETag, of each file; None where there is none."""
    if paths and is_url(paths[0]):
        return looks(paths)
    if len(paths) < _MANY:
        return _looks(paths)
    step = -(-len(paths) // 16)
    with ThreadPoolExecutor(16) as pool:
        parts = (paths[i : i + step] for i in range(0, len(paths), step))
        return list(chain.from_iterable(pool.map(_looks, parts)))


def _looks(paths: Sequence[str]) -> list[State | None]:
    found: list[State | None] = []
    for path in paths:
        try:
            stat = os.stat(path)
            found.append((stat.st_size, stat.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


def of_each(work: Callable[[Item], Result], items: Sequence[Item], *, at_url: bool) -> list[Result]:
    """Do something with each file: objects at once, files of a disk so where that takes its time.

    Parameters
    ----------
    work
        Reads a little of one file.
    items
        What it is given for each.
    at_url
        Whether the files are objects.
    """
    if at_url:
        return together(work, items)
    started = time.perf_counter()
    found = list(map(work, items[:FIRST_LOOK]))
    rest = items[FIRST_LOOK:]
    if time.perf_counter() - started > SLOW_LOOK * len(found):  # a file server takes its time
        with ThreadPoolExecutor(16) as pool:
            return found + list(pool.map(work, rest))
    return found + list(map(work, rest))


def settle(paths: Sequence[str]) -> tuple[list[State | None], list[int]]:
    """Look at files when the last change of each is more than a second ago.

    icechunk knows times in seconds: of a file that is changed twice in one second it would notice
    the first time only. So who indexes a file that was just written waits, at most a second.

    Returns
    -------
    states : list
        As `look` gives them.
    times : list of int
        When each was last changed, in nanoseconds; 0 where that is not known.
    """
    found, times = _dated(paths)
    # Servers tell whole seconds, in which a file may have been written any time.
    late = 10**9 if paths and is_url(paths[0]) else 0
    rest = whole_second(max(times, default=0) + late) - time.time()
    if 0 < rest <= 1:
        time.sleep(rest + _CLOCK)
        return _dated(paths)
    return found, times


def _dated(paths: Sequence[str]) -> tuple[list[State | None], list[int]]:
    """Look at files once, and at when they were changed."""
    if paths and is_url(paths[0]):
        seen = dated(paths)
        return [each and each[:2] for each in seen], [each[2] if each else 0 for each in seen]
    found = look(paths)
    return found, [int(each[1]) if each else 0 for each in found]


def whole_second(nanoseconds: int) -> int:
    """Give the second that a time is in, or the next one: not before it, in whole seconds."""
    return -(-int(nanoseconds) // 10**9)

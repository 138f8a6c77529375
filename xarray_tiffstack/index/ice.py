"""An index as a repository of icechunk: references, real chunks, and a commit for each state."""

from __future__ import annotations

import asyncio
import datetime
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np
from zarr.buffer.cpu import Buffer

from xarray_tiffstack.index.files import whole_second
from xarray_tiffstack.index.reach import container, storage
from xarray_tiffstack.storage import is_url, split

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from xarray_tiffstack.index.files import Files

CONTAINER = "raw"  # name that relative references begin with
OLDEST = (2, 3)
VIRTUAL = 2  # kind of a chunk that is a reference
TAGGED = "s3"  # where icechunk can ask for an ETag: it leaves out quotes, which others insist on


def load() -> Any:
    """Import icechunk, or say how it is installed."""
    try:
        import icechunk
    except ImportError:
        raise ImportError(
            'an index needs icechunk: pip install "xarray-tiffstack[index]" (Python 3.12 or newer)'
        ) from None
    if tuple(map(int, icechunk.__version__.split(".")[:2])) < OLDEST:
        raise ImportError(
            f"an index needs icechunk {'.'.join(map(str, OLDEST))} or newer, and this is "
            f'{icechunk.__version__}: pip install --upgrade "xarray-tiffstack[index]"'
        )
    if "ICECHUNK_LOG" not in os.environ:  # two warnings at each opening of a local repository
        icechunk.set_logs_filter("error")
    return icechunk


class Repository:
    """A repository in a local folder or at a URL, whose references begin at another one."""

    def __init__(self, place: str, root: str) -> None:
        self.icechunk = icechunk = load()
        folder = split(root).key if is_url(root) else root
        if found := sorted(set("#?%") & set(folder)):
            raise ValueError(
                f"icechunk cannot refer to files below {root}, for {' '.join(found)} in its name: "
                "rename the folder"
            )
        self._storage, self.place = storage(icechunk, place), place
        self._container = container(icechunk, root)
        self.prefix = self._container.prefix
        self._access = {self.prefix: self._container.access}

    def create(self) -> Any:
        """Make a new one."""
        config = self._config(self._container.kept)
        return self.icechunk.Repository.create(self._storage, config, self._access)

    def open(self, *, write: bool = False) -> Any:
        """Open one that is there; where its folder moved, references are read at the new place.

        Who will `write` gives the index nothing that is secret.
        """
        config = self._config(self._container.kept if write else self._container.used)
        try:
            return self.icechunk.Repository.open(self._storage, config, self._access)
        except self.icechunk.IcechunkError as error:
            if not is_url(self.place):
                raise
            said = str(error).partition("\n")[0]
            raise OSError(
                f"{self.place} holds no index, or may not be read: give storage_options=, such as "
                f"key and secret, or anon ({said})"
            ) from error

    def _config(self, store: Any) -> Any:
        config = self.icechunk.RepositoryConfig.default()
        config.set_virtual_chunk_container(
            self.icechunk.VirtualChunkContainer(self.prefix, store, name=CONTAINER)
        )
        return config


def is_repository(path: Path) -> bool:
    """Whether a folder is a repository of icechunk."""
    return (path / "repo").is_file() and (path / "snapshots").is_dir()


def put(store: Any, made: Mapping[str, bytes], clear: bool) -> None:
    """Write keys to a session."""

    async def write() -> None:
        if clear:
            await store.clear()
        for key, data in made.items():
            await store.set(key, Buffer.from_bytes(data))

    _run(write)


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with ThreadPoolExecutor(1) as pool:  # a notebook has a loop of its own in this thread
        pool.submit(asyncio.run, work()).result()


class Targets:
    """The files as icechunk refers to them: an address, and a time or an ETag each."""

    def __init__(self, icechunk: Any, files: Files) -> None:
        self.icechunk, self.root = icechunk, files.root
        self.urls = [f"vcc://{CONTAINER}/{quote(name)}" for name in files.paths]
        count = len(files.paths)
        self.tags: list[str | None] = [None] * count
        self.times: list[datetime.datetime | None] = [None] * count
        if is_url(files.root) and split(files.root).kind == TAGGED:
            self.tags = [f'"{tag}"' for tag in files.tags]
        else:
            self.times = [_second(time) if time else None for time in files.times.tolist()]

    def refer(
        self, store: Any, path: str, which: np.ndarray, offsets: np.ndarray, counts: np.ndarray
    ) -> None:
        """Set the references of one array, of whose chunks files, offsets and sizes are given."""
        places = np.argwhere(offsets >= 0)
        at = tuple(places.T)
        items = zip(
            places.tolist(),
            which[at].tolist(),
            offsets[at].tolist(),
            counts[at].tolist(),
            strict=True,
        )
        specs = [
            self.icechunk.VirtualChunkSpec(
                index, self.urls[k], offset, count, self.tags[k], self.times[k]
            )
            for index, k, offset, count in items
        ]
        if specs and store.set_virtual_refs(path, specs, validate_containers=True):
            raise ValueError(f"{self.root} is not the folder of all files")


def _second(nanoseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(whole_second(nanoseconds), datetime.UTC)


def referred(
    store: Any, array: Any, prefix: str, names: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the references of one array: the number of the file, offset and size of each chunk.

    Parameters
    ----------
    store
        Of a session.
    array : zarr.Array
        The array.
    prefix
        Address of all files.
    names
        Name of each file below it -> its number.
    """
    grid = array.cdata_shape
    which, counts = np.full(grid, -1, np.int64), np.zeros(grid, np.int64)
    offsets = np.full(grid, -1, np.int64)

    async def read() -> None:
        async for at, kinds, paths, starts, sizes, _ in store.array_chunk_iterator(array.path):
            held = np.flatnonzero(kinds == VIRTUAL)
            place = tuple(at[held].T)
            which[place] = [names[unquote(paths[i].removeprefix(prefix))] for i in held.tolist()]
            offsets[place], counts[place] = starts[held], sizes[held]

    _run(read)
    return which, offsets, counts

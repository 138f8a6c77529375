"""An index as a repository of icechunk: references, real chunks, and a commit for each state."""

from __future__ import annotations

import asyncio
import datetime
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from zarr.buffer.cpu import Buffer

from xarray_tiffstack.index.files import whole_second

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xarray_tiffstack.index.files import Files

CONTAINER = "raw"  # name that relative references begin with
OLDEST = (2, 3)


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
    """A repository in a local folder, whose references begin at another one."""

    def __init__(self, path: Path, root: str) -> None:
        self.icechunk = icechunk = load()
        place = Path(root).as_posix()
        if found := sorted(set("#?%") & set(place)):
            raise ValueError(
                f"icechunk cannot refer to files below {place}, for {' '.join(found)} in its name: "
                "rename the folder"
            )
        prefix = f"file://{place if place.startswith('/') else f'/{place}'}/"
        self._storage = icechunk.local_filesystem_storage(str(path))
        self._config = icechunk.RepositoryConfig.default()
        self._config.set_virtual_chunk_container(
            icechunk.VirtualChunkContainer(
                prefix, icechunk.local_filesystem_store(root), name=CONTAINER
            )
        )
        self._access = {prefix: icechunk.credentials.LocalFileSystemAccess}

    def create(self) -> Any:
        """Make a new one."""
        return self.icechunk.Repository.create(self._storage, self._config, self._access)

    def open(self) -> Any:
        """Open one that is there; where its folder moved, references are read at the new place."""
        return self.icechunk.Repository.open(self._storage, self._config, self._access)


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

    with ThreadPoolExecutor(1) as pool:  # a notebook has a loop of its own in this thread
        pool.submit(asyncio.run, write()).result()


class Targets:
    """The files as icechunk refers to them: an address and a time each."""

    def __init__(self, icechunk: Any, files: Files) -> None:
        self.icechunk, self.root = icechunk, files.root
        self.urls = [f"vcc://{CONTAINER}/{quote(name)}" for name in files.paths]
        self.times = [
            datetime.datetime.fromtimestamp(whole_second(at), datetime.UTC) for at in files.times
        ]

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
            self.icechunk.VirtualChunkSpec(index, self.urls[k], offset, count, None, self.times[k])
            for index, k, offset, count in items
        ]
        if specs and store.set_virtual_refs(path, specs, validate_containers=True):
            raise ValueError(f"{self.root} is not the folder of all files")

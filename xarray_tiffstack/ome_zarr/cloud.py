"""A store that is no local folder, such as one on Amazon S3: its objects, many at once.

Every request takes its time there, so that what does not depend on each other is asked for
together. Nothing is renamed: the root is written last, and before all else a mark that the store is
being made (in the group of this program), so that whoever finds it knows whose it is.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from zarr.buffer.cpu import Buffer, buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore

from xarray_tiffstack.ome_zarr.journal import NOTES
from xarray_tiffstack.ome_zarr.pixels import kvstore_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from zarr.abc.store import Store as ZarrStore

Item = TypeVar("Item")
Result = TypeVar("Result")

AT_ONCE = 32  # requests on their way
MARKS = tuple(f"{NOTES}/{name}" for name in ("zarr.json", ".zgroup", ".zattrs"))


class Cloud:
    """Objects of a store, by their keys.

    Parameters
    ----------
    target
        A URL that zarr opens, or a store of zarr.
    """

    def __init__(self, target: str | ZarrStore) -> None:
        self.target = target
        self.store = FsspecStore.from_url(target) if isinstance(target, str) else target

    def _quick(self) -> Any:
        """Open a URL with tensorstore, whose requests cost a tenth; None where it cannot."""
        spec = kvstore_of(self.target, "") if isinstance(self.target, str) else None
        return _opened(json.dumps(spec)) if spec else None

    def names(self, folder: str = "") -> list[str]:
        """Names in the root or a folder, of objects and of what is like a folder; one request."""
        if isinstance(self.store, FsspecStore):  # other processes write there, too
            self.store.fs.invalidate_cache()
        return sync(_all(self.store.list_dir(folder)))

    def keys(self) -> list[str]:
        """List all objects; a request for some 1,000."""
        return sync(_all(self.store.list()))

    def read(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read those objects that are there."""
        if (quick := self._quick()) is not None:
            asked = [(key, quick.read(key)) for key in keys]
            found = [(key, each.result()) for key, each in asked]
            return {key: bytes(each.value) for key, each in found if each.state == "value"}

        async def read(key: str) -> tuple[str, bytes | None]:
            found: Any = await self.store.get(key, prototype=buffer_prototype)
            return key, found and found.to_bytes()

        return {key: data for key, data in _each(read, keys) if data is not None}

    def write(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write objects, in any order."""
        if (quick := self._quick()) is not None:
            for each in [quick.write(key, data) for key, data in files]:
                each.result()
            return

        async def write(file: tuple[str, bytes]) -> None:
            await self.store.set(file[0], Buffer.from_bytes(file[1]))

        _each(write, files)

    def stamped(self, key: str) -> tuple[bytes | None, Any]:
        """Read an object, and its state for `replace`; None and None where there is none."""
        if (quick := self._quick()) is None:
            data = self.read([key]).get(key)
            return data, None if data is None else False
        found = quick.read(key).result()
        if found.state != "value":
            return None, None
        return bytes(found.value), found.stamp.generation

    def replace(self, key: str, data: bytes | None, stamp: Any) -> bool:
        """Replace an object that is still in a state, or delete it; False where it changed.

        Where the state is not known, as with a service that tensorstore does not speak to, it is
        replaced in any case.
        """
        if stamp and (quick := self._quick()) is not None:
            with suppress(ValueError, NotImplementedError):  # it is no state that can be asked for
                return bool(quick.write(key, data, if_equal=stamp).result().generation)
        if data is None:
            self.delete([key])
        else:
            self.write([(key, data)])
        return True

    def create_once(self, key: str, data: bytes) -> bool:
        """Write an object where there is none; False where there is one already.

        Where a service cannot write so, it is looked for instead, just before it is written.
        """
        if (quick := self._quick()) is not None:
            with suppress(ValueError, NotImplementedError):
                found = quick.read(key).result()
                if found.state == "value":
                    return False
                absent = found.stamp.generation
                return bool(quick.write(key, data, if_equal=absent).result().generation)
        files: Any = self.store.fs if isinstance(self.store, FsspecStore) else None

        async def put() -> None:
            await files._pipe_file(f"{self.store.path}/{key}", data, mode="create")  # type: ignore[attr-defined]

        try:
            if files is None:
                raise NotImplementedError
            sync(put())
        except FileExistsError:
            return False
        except (OSError, NotImplementedError, TypeError, ValueError) as error:
            if self.read([key]):
                return False
            if isinstance(error, PermissionError):
                raise
            self.write([(key, data)])
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, in any order."""
        with suppress(FileNotFoundError):
            self._delete(sorted(keys))

    def create(self, files: Iterable[tuple[str, bytes]], *, whole: bool) -> dict[str, bytes]:
        """Write all objects of a new store but pixels; those of its root where it is `whole`.

        Without its root nobody takes it for a store before it is complete. Returns what was
        written.
        """
        made = {key: data for key, data in files if whole or "/" in key}
        marks = {key: made[key] for key in MARKS if key in made}
        self.write((key, _marked(data)) for key, data in marks.items())
        self.write(file for file in made.items() if "/" in file[0] and file[0] not in marks)
        self.write(marks.items())
        self.write(file for file in made.items() if "/" not in file[0])
        return made

    def publish(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write those objects that are not there as they should be, and those of the root last."""
        files = list(files)
        there = self.read(key for key, _ in files)
        changed = [file for file in files if there.get(file[0]) != file[1]]
        self.write(file for file in changed if "/" in file[0])
        self.write(file for file in changed if "/" not in file[0])

    def remove(self, keys: Iterable[str]) -> None:
        """Delete objects, those of the root first: half a store must not be taken for one."""
        keys = list(keys)
        root, own = (
            {k for k in keys if "/" not in k},
            {k for k in keys if k.startswith(f"{NOTES}/")},
        )
        for some in (root, set(keys) - root - own, own):
            self._delete(sorted(some))

    def _delete(self, keys: list[str]) -> None:
        """Delete objects, in any order."""

        async def delete(key: str) -> None:
            await self.store.delete(key)

        if not isinstance(self.store, FsspecStore):
            _each(delete, keys)
        elif keys:  # where the service can, a request for 1,000
            sync(self.store.fs._rm([f"{self.store.path}/{key}" for key in keys]))


@lru_cache(maxsize=16)
def _opened(spec: str) -> Any:
    """Open a place with tensorstore; None where it does not get there as zarr does."""
    import tensorstore

    try:
        store = tensorstore.KvStore.open(json.loads(spec)).result()
        store.read(MARKS[0]).result()
    except (ValueError, NotImplementedError, RuntimeError, OSError):
        return None
    return store


async def _all(items: AsyncIterator[Item]) -> list[Item]:
    return [item async for item in items]


def _each(work: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> list[Result]:
    """Do something with each item, some at once; the results are in the order of the items."""

    async def every() -> list[Result]:
        free = asyncio.Semaphore(AT_ONCE)

        async def one(item: Item) -> Result:
            async with free:
                return await work(item)

        return await asyncio.gather(*map(one, items))

    return sync(every())


def _marked(data: bytes) -> bytes:
    """Say in the attributes of a group that its store is being made."""
    document = json.loads(data)
    if "attributes" in document or "settings" in document:
        document.get("attributes", document)["state"] = "preparing"
    return json.dumps(document).encode()

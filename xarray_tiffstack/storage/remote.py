"""The bytes of one object at a URL, a range at a time, all of them of one state of it.

obstore asks again where a server answers 5xx, says nothing, or cuts the connection (storage_options
``retry_config`` and ``client_options`` say how often and how long). What it gives is checked here:
a range that is too short is asked for again; one of another state of the object is an error.
"""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obstore import ObjectMeta

    from xarray_tiffstack.storage.access import Access

MOST_REQUESTS = 32  # at once, of this process
HEAD = 1 << 16  # bytes of an object that the first request asks for
AROUND = 1024, 3072  # bytes before and behind few bytes that are asked for with them
BRIDGE = 1 << 14  # bytes between two ranges that are read over: less than a request costs
MOST_JOINED = 1 << 23  # bytes of ranges that are joined to one
_ATTEMPTS = 4  # at a range that comes too short
_PAUSE = 0.05  # seconds before the second attempt; twice as long before each further one
_OBJECTS = 4096  # whose state is remembered
_WITH_BYTES = 64  # of them whose bytes are kept too
_PIECE = 1 << 20  # bytes of an object that is read from its begin to its end, at a time

_CHANGED = "{} changed while it was read: open the source again"

_gate = threading.BoundedSemaphore(MOST_REQUESTS)
_lock = threading.Lock()
_known: OrderedDict[tuple[str, str], Remote] = OrderedDict()

Item = TypeVar("Item")
Result = TypeVar("Result")


class ChangedError(OSError):
    """An object is no longer what it was when it was read before."""


class _Here(threading.local):
    """Whether this thread works on parts, for which others wait."""

    busy = False


_here = _Here()


def _busy() -> None:
    _here.busy = True


@cache
def _pool(name: str) -> ThreadPoolExecutor:
    """Threads of one kind of work: those of one wait only for those of the other."""
    start = _busy if name == "parts" else None
    return ThreadPoolExecutor(MOST_REQUESTS, f"tiffstack-{name}", start)


def together(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do something with many objects at once; an error is raised when all are done."""
    return _all("objects", work, items)


def _all(name: str, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    futures = [_pool(name).submit(work, item) for item in items]
    wait(futures)  # else some would still write to memory that is used again
    return [future.result() for future in futures]


class Remote:
    """One object in one state; in any thread."""

    def __init__(self, url: str, access: Access) -> None:
        self.url, self.access = url, access
        self.store, self.key = access.store(url)
        self.lock = threading.Lock()
        self.starts: list[int] = []
        self.kept: list[bytes] = []
        self.fresh = True
        """Whether its state was asked for just now."""
        self.answers = 0
        """How often the server sent bytes of this state."""
        self.size, self.tag, self.time = -1, "", ""
        self.head = self._first()

    @classmethod
    def of(cls, url: str, access: Access) -> Remote:
        """Object in the state that is known already, or else in that which is found."""
        name = url, access.identity
        with _lock:
            known = _known.get(name)
            if known is not None:
                _known.move_to_end(name)
                known.fresh = False
        found = known or cls(url, access)
        with _lock:
            _known[name] = found
            if len(_known) > _OBJECTS:
                _known.popitem(last=False)
            for old in islice(reversed(_known.values()), _WITH_BYTES, _WITH_BYTES + 1):
                old.forget()
        return found

    def drop(self) -> None:
        """Forget the state, so that it is asked for anew."""
        gone(self.url, self.access)

    def forget(self) -> None:
        """Keep no bytes but the first."""
        with self.lock:
            self.starts, self.kept = [], []

    @property
    def state(self) -> tuple[int, str]:
        """Size, and what names the content: the ETag, or where there is none the time."""
        return self.size, _bare(self.tag or self.time)

    def require(self) -> None:
        """Ask the server whether it is in this state still.

        Raises
        ------
        ChangedError
            It is not.
        """
        self.get(0, 1)

    def _first(self) -> bytes:
        """Ask for the first bytes, which tell the state."""
        try:
            data = self.get(0, HEAD)
        except FileNotFoundError:
            raise
        except OSError:  # perhaps it has no bytes
            if stat(self.url, self.access)[0] == 0:
                self.size = 0
                return b""
            raise
        self.keep(0, data)
        return data[:16]

    def get(self, start: int, stop: int) -> bytes:
        """Bytes of a range, by one request; fewer where the object ends."""
        from obstore import exceptions

        options: Any = {"range": (start, stop)}
        if self.tag and not self.tag.startswith("W/"):
            options["if_match"] = self.tag
        data = b""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE * 2 ** (attempt - 1))
            with _gate, naming(self.url):
                result = self.store.get(self.key, options=options)
                try:
                    data = bytes(result.bytes())
                except exceptions.GenericError:
                    # Of an object with an ETag obstore asked for the rest already.
                    if self.tag or attempt == _ATTEMPTS - 1:
                        raise
                    continue
            self._same(result.meta)
            if result.range[0] == start and len(data) == min(stop, self.size) - start:
                self.answers += 1
                return data
        raise OSError(
            f"{self.url} cannot be read: of bytes {start} to {stop} the server sent {len(data)}"
        )

    def _same(self, meta: Any) -> None:
        """Take the state of the first answer, and refuse another one."""
        found = meta["size"], meta["e_tag"] or "", str(meta["last_modified"])
        if self.size < 0:
            self.size, self.tag, self.time = found
        elif found[:2] != (self.size, self.tag) or (not self.tag and found[2] != self.time):
            raise ChangedError(_CHANGED.format(self.url))

    # --- bytes that are kept

    def keep(self, start: int, data: bytes) -> None:
        """Keep bytes that are likely to be asked for again."""
        with self.lock:
            at = bisect_right(self.starts, start)
            self.starts.insert(at, start)
            self.kept.insert(at, data)

    def _find(self, start: int, stop: int) -> bytes | None:
        """Bytes of a range that was read already."""
        with self.lock:
            for at in range(bisect_right(self.starts, start) - 1, -1, -1):
                begin, data = self.starts[at], self.kept[at]
                if stop <= begin + len(data):
                    return data[start - begin : stop - begin]
                if start - begin > MOST_JOINED:
                    break
        return None

    def read(self, start: int, stop: int) -> bytes:
        """Bytes of a range; around few of them more are read, and kept."""
        found = self._find(start, stop)
        if found is not None:
            return found
        if stop - start > AROUND[1]:
            return self.get(start, stop)
        begin, end = self.around(start)
        data = self.get(begin, end := max(end, stop))
        self.keep(begin, data)
        return data[start - begin : stop - begin]

    def pixels(self, start: int, stop: int) -> bytes:
        """Bytes of a range, and none around it."""
        return self._find(start, stop) or self.get(start, stop)

    def around(self, start: int) -> tuple[int, int]:
        """Range that is read for few bytes: all of the end where they are near it."""
        if self.size - start <= HEAD:
            return max(0, self.size - HEAD), self.size
        return max(0, start - AROUND[0]), min(self.size, start + AROUND[1])

    def prefetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read many ranges at once and keep them; those near each other are one request."""
        wanted = [r for r in ranges if r[0] < r[1] and self._find(*r) is None]
        for begin, data in self.parts(lambda r: (r[0], self.get(*r)), _merged(wanted)):
            self.keep(begin, data)

    def gather(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read many ranges at once without keeping them; those near each other are one request."""
        joined = _merged(ranges)
        read = self.parts(lambda r: self.pixels(*r), joined)
        begins = [start for start, _ in joined]
        found = []
        for start, stop in ranges:
            k = bisect_right(begins, start) - 1
            found.append(read[k][start - begins[k] : stop - begins[k]])
        return found

    def parts(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Do something with many parts of the object at once."""
        if len(items) < 2 or _here.busy:
            return [work(item) for item in items]
        return _all("parts", work, items)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges with few bytes between them.

    Examples
    --------
    >>> _merged([(100, 200), (0, 90), (10**6, 10**6 + 10)])
    [(0, 200), (1000000, 1000010)]
    """
    found: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if found and start - found[-1][1] <= BRIDGE and stop - found[-1][0] <= MOST_JOINED:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def all_bytes(url: str, access: Access) -> Iterator[bytes]:
    """All bytes of an object as it is now, by one request, piece by piece.

    Raises
    ------
    OSError
        There is none, or the server sent fewer bytes than it said.
    """
    store, key = access.store(url)
    with _gate, naming(url):
        result = store.get(key)
        rest = result.meta["size"]
        for piece in result.stream(min_chunk_size=_PIECE):
            rest -= len(piece)
            yield bytes(piece)
        if rest:
            raise OSError(f"the server sent {rest} bytes too few")


def stat(url: str, access: Access) -> tuple[int, str]:
    """Size of an object, and what names its state; asks the server.

    Raises
    ------
    OSError
        There is none, or the server does not say.
    """
    return noticed(url, access, asked(url, access))


def asked(url: str, access: Access) -> ObjectMeta:
    """Ask the server about an object; raises as `stat` does."""
    store, key = access.store(url)
    try:
        with _gate, naming(url):
            return store.head(key)
    except FileNotFoundError:
        gone(url, access)
        raise


def noticed(url: str, access: Access, meta: ObjectMeta) -> tuple[int, str]:
    """Size and state of an object by what a server says of it; of another state all is forgotten.

    ETags are compared without their quotes, which some servers give in listings and others not.
    """
    state = meta["size"], _bare(meta["e_tag"] or str(meta["last_modified"]))
    with _lock:
        known = _known.get((url, access.identity))
        if known is not None and known.state != state:
            del _known[url, access.identity]
    return state


def gone(url: str, access: Access) -> None:
    """Forget an object that is there no more."""
    with _lock:
        _known.pop((url, access.identity), None)


def _bare(tag: str) -> str:
    return tag.removeprefix("W/").strip('"')


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Turn what obstore raises into errors that Python knows, and that name the object."""
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url} does not exist") from error
    except exceptions.PreconditionError as error:
        raise ChangedError(_CHANGED.format(url)) from error
    except (
        exceptions.PermissionDeniedError,
        exceptions.UnauthenticatedError,
        PermissionError,
    ) as error:
        raise PermissionError(
            f"{url} may not be read: give storage_options=, such as key and secret, or anon "
            f"({_said(error)})"
        ) from error
    except (exceptions.BaseError, ValueError, OSError) as error:
        raise OSError(f"{url} cannot be read: {_said(error)}") from error


def _said(error: Exception) -> str:
    """First line of a message, without queries: those may be secret."""
    return re.sub(r"\?\S*", "", str(error).partition("\n")[0])

"""Who may write to a store in the cloud, where no lock ends with its process.

A note beside the store says who writes to it, and is renewed while that runs. It is made by a put
that fails where there is one already (Amazon S3, Google Cloud Storage and Azure have that), so that
of two conversions that begin at once one is refused. A note that was not renewed for a while is of
a process that was killed, and is taken over.

Parts share the note, and beside it each has one of its own. So each can end, or be killed, without
the others, and it is seen when none is left. A part first writes its own note, and then looks
whether parts share the note still. Who takes the note alone takes it first, and then looks for
notes of parts. So of two that do so at once at least one sees the other.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from xarray_tiffstack.ome_zarr.cloud import AT_ONCE, Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

BEAT = 20.0  # seconds after which a note is renewed
STALE = 120.0  # seconds without that after which it is taken over
SURE = 1.0  # seconds after a take-over in which another one would be seen
LOOK = 1.0  # seconds between looks of a part at a note


class Lease:
    """A note that this process holds, or shares."""

    def __init__(self, place: Cloud, name: str, target: str, shared: bool) -> None:
        self.place, self.name, self.target, self.parts = place, name, target, shared
        self.alone, self.works = True, True
        self.lost = False
        self._token = uuid4().hex
        self._folder = f"{name}.parts"
        self._own = f"{self._folder}/{self._token}"
        self._renewed = time.time()  # of the clock that goes on while a machine sleeps
        self._end, self._asking = threading.Event(), threading.RLock()

    # -- as a lock of a local store has it ------------------------------------------------------

    def share(self) -> None:
        """Let other parts in."""
        with self._asking:
            if self.alone:
                self.require(look=True)
                self._share()
        self.require()

    def last(self) -> bool:
        """Tell nothing: what killed processes leave in the cloud is not deleted."""
        return False

    def require(self, look: bool = False) -> None:
        """Go on only while no other conversion took over; to be asked before anything is written.

        Looks at the note with `look`, or where it was not renewed for so long that another one may
        have taken it; else it costs no request.

        Raises
        ------
        BlockingIOError
            Another one took over.
        """
        with self._asking:
            if look or time.time() - self._renewed > STALE:
                try:
                    self._renew()
                except Exception as error:
                    raise OSError(f"{self.target} cannot be written: {error}") from error
        if self.lost:
            raise BlockingIOError(
                f"another conversion took over {self.target}, because this one was not heard of "
                f"for {STALE:.0f} s. This one stopped; when the other one has ended, the same call "
                "resumes"
            )

    # -- the note -------------------------------------------------------------------------------

    def _read(self) -> tuple[dict[str, Any], Any]:
        """Read the note, and its state; empty where there is none."""
        data, stamp = self.place.stamped(self.name)
        return _parsed(data), stamp

    def _note(self) -> bytes:
        about: dict[str, Any] = {"process": os.getpid(), "host": socket.gethostname()}
        about |= {"token": self._token, "renewed": time.time()}
        about |= {"parts": self.parts, "shared": not self.alone}
        return json.dumps(about).encode()

    def take(self, patience: float) -> None:
        """Make the note, or join the parts that have one.

        Raises
        ------
        BlockingIOError
            Another conversion has it.
        """
        deadline = time.monotonic() + patience
        while True:
            found, stamp = self._read()
            if not found and stamp is None:
                if self.place.create_once(self.name, self._note()) and self._settle():
                    return
                continue
            if found.get("token") == self._token:  # the answer to the first attempt was lost
                if self._settle():
                    return
            elif found.get("shared") and (others := self._others()[0]):
                if not self.parts:
                    raise self._refused(others)
                if self._join():
                    return
            elif not found.get("shared") and not _is_dead(found):
                if not (self.parts and found.get("parts") and time.monotonic() < deadline):
                    raise self._refused(found)
                time.sleep(LOOK)
            elif self.place.replace(self.name, self._note(), stamp):
                time.sleep(SURE)  # some services cannot replace only what did not change

    def _join(self) -> bool:
        """Join parts, unless another one takes the note just now."""
        self.alone = False
        self.place.write([(self._own, self._note())])
        if self._read()[0].get("shared"):
            return True
        self.alone = True
        self.place.delete([self._own])
        time.sleep(LOOK)  # it gives it back if it has seen this one
        return False

    def _settle(self) -> bool:
        """Take the note that was just made, unless parts are there: it is theirs then."""
        others, dead = self._others()
        if not others:
            self.place.delete(dead)
            return True
        self._share()
        if not self.parts:
            raise self._refused(others)
        return True

    def _share(self) -> None:
        """Have parts share the note that is held alone."""
        self.alone = False
        if self.parts:  # before: else it would be a note that no part has
            self.place.write([(self._own, self._note())])
        found, stamp = self._read()
        self.lost = found.get("token") != self._token
        if not self.lost and not self.place.replace(self.name, self._note(), stamp):
            self.lost = not self._read()[0].get("shared")

    def _others(self) -> tuple[dict[str, Any], list[str]]:
        """Note of another part that is alive, and else the keys of those that are dead."""
        names = [name for name in self.place.names(self._folder) if name != self._token]
        keys = [f"{self._folder}/{name}" for name in names]
        for i in range(0, len(keys), AT_ONCE):
            for data in self.place.read(keys[i : i + AT_ONCE]).values():
                if (found := _parsed(data)) and not _is_dead(found):
                    return found, []
        return {}, keys

    def _refused(self, by: dict[str, Any]) -> BlockingIOError:
        return BlockingIOError(
            f"another conversion writes to {self.target} ({_who(by)}): wait until it ends, "
            f"or write to another store. If it was killed, the same call takes over "
            f"{STALE:.0f} s after it was last heard of"
        )

    # -- while it is held -----------------------------------------------------------------------

    def _renew(self) -> None:
        """Renew the note, or see that it is of another conversion."""
        with self._asking:
            if self._end.is_set() or self.lost:
                return
            now = time.time()
            self.lost = not self._renewed_as(self.name if self.alone else self._own)
            if not self.lost and not self.alone:
                found = self._read()[0]
                self.lost = bool(found) and not found.get("shared")
            if not self.lost:
                self._renewed = now

    def _renewed_as(self, key: str) -> bool:
        """Renew a note that this process made; False where it is not there any more."""
        for _ in range(2):  # the answer to a first attempt may be lost
            data, stamp = self.place.stamped(key)
            if _parsed(data).get("token") != self._token:
                return False
            if self.place.replace(key, self._note(), stamp):
                return True
        return _parsed(self.place.stamped(key)[0]).get("token") == self._token

    def keep(self) -> None:
        """Renew the note until the end; in a thread."""
        while not self.lost and not self._end.wait(BEAT):
            with suppress(Exception):  # the next one may come through
                self._renew()

    def give_back(self) -> None:
        """Delete the note, unless other parts still need it, or it is of another conversion."""
        self._end.set()
        with self._asking, suppress(Exception):  # else it is taken over when it is old
            if not self.alone:
                self.place.delete([self._own])
            if self.lost or (not self.alone and self.place.names(self._folder)):
                return
            found, stamp = self._read()
            if found.get("token") == self._token or (found.get("shared") and not self.alone):
                self.place.replace(self.name, None, stamp)


@contextmanager
def leased(target: str, shared: bool, patience: float) -> Iterator[Lease]:
    """Keep other conversions away from a store at a URL, while this one runs.

    Raises
    ------
    BlockingIOError
        Another one is running, or has taken over because this one was not heard of.
    """
    folder, _, name = target.rstrip("/").rpartition("/")
    lease = Lease(Cloud(folder), f".{name}.lock", target, shared)
    lease.take(patience)
    beat = threading.Thread(target=lease.keep, daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        lease.give_back()
    lease.require()


def has_lease(target: object) -> bool:
    """Whether notes can be made beside a store: it is in a bucket, not all of it."""
    return isinstance(target, str) and "/" in target.rstrip("/").partition("://")[2]


def _parsed(data: bytes | None) -> dict[str, Any]:
    """Understand a note; empty where there is none, or another thing."""
    try:
        found: dict[str, Any] = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found


def _is_dead(note: dict[str, Any]) -> bool:
    """Whether who made a note was killed."""
    if time.time() - note.get("renewed", 0) > STALE:
        return True
    if note.get("host") != socket.gethostname() or os.name == "nt":
        return False
    try:
        os.kill(note["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _who(note: dict[str, Any]) -> str:
    what = "a part, " if note.get("parts") else ""
    ago = max(0, time.time() - note.get("renewed", 0))
    return f"{what}process {note.get('process')} on {note.get('host')}, heard of {ago:.0f} s ago"

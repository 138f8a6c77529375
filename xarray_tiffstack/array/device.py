"""The graphics card: whether there is one, and how a block gets into its memory and back.

The only module that imports cupy, and only once a device was asked for. A device is the text
``"cuda"`` (the current card of the thread that reads) or ``"cuda:1"``, so that a task that is sent
to another process carries nothing of this one.
"""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

INSTALL = (
    "install cupy for your CUDA version (pip install cupy-cuda12x, or cupy-cuda13x) and "
    'cupy-xarray (pip install "xarray-tiffstack[gpu]")'
)


def check(device: str | None) -> str | None:
    """Raise where there is no such device, and spell it: None is the host.

    Raises
    ------
    ValueError
        It is not the name of a device.
    ImportError
        cupy is missing.
    RuntimeError
        This machine has no such card, or no driver for it.
    """
    if device is None or device == "cpu":
        return None
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?", device):
        raise ValueError(
            f"device must be None (the host), 'cuda', or 'cuda:0', 'cuda:1', ..., not {device!r}"
        )
    try:
        import cupy
    except ImportError as error:
        raise ImportError(f"{device!r} needs cupy ({error}): {INSTALL}") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        raise RuntimeError(
            f"{device!r} needs an NVIDIA card and its driver, and CUDA finds none: {error}"
        ) from error
    if (_ordinal(device) or 0) >= count:
        cards = ", ".join(f"'cuda:{i}'" for i in range(count)) or "no card"
        raise RuntimeError(f"there is no {device!r}: this machine has {cards}")
    return device


def absent() -> list[str]:
    """List the packages for ``.cupy`` that are not installed; imports none of them."""
    return [name for name in ("cupy", "cupy_xarray") if find_spec(name) is None]


def register_cupy() -> None:
    """Import cupy-xarray where it is installed; that registers ``.cupy``."""
    if not absent():
        with suppress(ImportError):  # files are read on the host all the same where cupy is broken
            import cupy_xarray  # noqa: F401


def empty(shape: tuple[int, ...], dtype: np.dtype[Any], device: str) -> Any:
    """Make an array on a device."""
    import cupy

    with _on(device):
        return cupy.empty(shape, dtype)


def upload(block: np.ndarray, device: str) -> Any:
    """Copy a block to a device; returns when all pixels are there."""
    import cupy

    with _on(device):
        array = cupy.asarray(block)
        # dask hands the array to other threads, which know nothing of the stream here.
        cupy.cuda.get_current_stream().synchronize()
        return array


def on_host(array: Any) -> Any:
    """Bring an array, or each block of a dask array, to the host where it is not there yet."""
    meta = getattr(array, "_meta", array)
    if isinstance(meta, np.ndarray) or not hasattr(meta, "get"):
        return array
    return array.get() if meta is array else array.map_blocks(_get, dtype=array.dtype)


def _get(block: Any) -> Any:
    return block.get()


def _on(device: str) -> AbstractContextManager[Any]:
    """Make a card the current one."""
    import cupy

    card: AbstractContextManager[Any] = cupy.cuda.Device(_ordinal(device))
    return card


def _ordinal(device: str) -> int | None:
    """Give the number of a card; None is the current one."""
    _, _, number = device.partition(":")
    return int(number) if number else None

"""The rows of the table about sources at a URL: 20 ms a request more, and all of them counted."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from bench.measure import Row, spell
from xarray_tiffstack.messages import counted

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.data import Workshop

DELAY = 0.02


@contextmanager
def served(folder: Path) -> Iterator[Any]:
    """Serve a folder through a proxy that takes its time."""
    from proxy import Proxy
    from served import Served

    with Served(folder) as server:
        proxy = Proxy(server.port, DELAY)
        try:
            yield proxy
        finally:
            proxy.close()


def urls(shop: Workshop) -> Iterator[Row]:
    """Open 3 channels x many stacks of 316 MB at a URL, look at planes, and at a row of each."""
    folder, z = shop.reference, shop.shape[0] // 2
    names = sorted(path.name for path in folder.iterdir())
    with served(folder) as proxy:

        def told(what: str, run: Callable[[], object], target: str = "", most: float = 0) -> Row:
            proxy.clear()
            begin = time.perf_counter()
            run()
            took, count = time.perf_counter() - begin, len(proxy.requests)
            requests = counted(count, "request")
            said = f"{spell(took)}, {requests}, {proxy.nbytes / 1e6:,.2f} MB"
            said += f", at most {proxy.most} at once" if count > 8 else ""
            reached = (took if most < 1 else count) <= most if target else None
            return Row(f"{what}, 20 ms a request", said, target=target, reached=reached)

        image: Any = None

        def open_all() -> None:
            nonlocal image
            source = [f"{proxy.url}/{name}" for name in names]
            image = xr.open_dataset(source, engine="tiffstack").image

        yield told(f"open {len(names)} files at URLs", open_all)
        # What dask loads once, distributed where that is installed, no server can help with.
        begin = time.perf_counter()
        xr.DataArray([0]).chunk().load()
        yield Row("what dask loads at the first computation", spell(time.perf_counter() - begin))
        yield told("then one plane of the file that was opened", image[0, 0, z].load, "0.6 s", 0.6)
        yield told("the next plane", image[0, 0, z + 1].load, "2 requests", 2)
        yield told("the first plane of another file", image[0, 1, z].load, "0.6 s", 0.6)
        yield told(f"one row of one plane of all {len(names)} files", image[:, :, z, 7].load)


REMOTE: tuple[Callable[[Workshop], Iterator[Row]], ...] = (urls,)

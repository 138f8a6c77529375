"""Several processes on one acquisition."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest
import xarray as xr
from conftest import pixels, reference_name, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client() -> Iterator[object]:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_workers_read_and_write(client: object, acquisition: Path, tmp_path: Path) -> None:
    ds = xr.open_dataset(acquisition, engine="tiffstack", chunks={"stack": 1})
    sums = ds.image.sum(("z", "y", "x")).compute()
    assert sums.sel(channel=560, stack=3) == pixels(8).sum()
    ds.to_zarr(tmp_path / "store.zarr", zarr_format=2)
    with xr.open_zarr(tmp_path / "store.zarr") as back:
        xr.testing.assert_identical(back.load(scheduler="synchronous"), ds.load())


def test_a_broken_file_is_named_across_processes(client: object, acquisition: Path) -> None:
    (acquisition / reference_name(1, 2)).write_bytes(b"II*\0")
    ds = xr.open_dataset(acquisition, engine="tiffstack", chunks={"stack": 1})
    with pytest.raises((OSError, ValueError), match=reference_name(1, 2)):
        ds.image.max().compute()


def test_a_task_holds_the_files_of_its_own_block(tmp_path: Path) -> None:
    for t in range(300):
        write(tmp_path / f"cell_t{t:03d}.tif", t, shape=(2, 2))
    ds = xr.open_dataset(tmp_path, engine="tiffstack", pattern="cell_t{t:d}.tif", chunks={"t": 1})
    tasks = dict(ds.image.data.__dask_graph__())
    assert len(tasks) == 300
    one = max(len(pickle.dumps(task)) for task in tasks.values())
    assert one < 3000 + len(str(tmp_path))
    whole, few = (len(pickle.dumps(a.data)) for a in (ds.image, ds.image.isel(t=[7, 2])))
    assert few < 5000 < whole

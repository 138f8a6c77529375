"""Selecting lazily equals selecting from the loaded array, and reads only what it names."""

from __future__ import annotations

import os
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from conftest import reference_name, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xarray_tiffstack.array.reads import source_of

SIZES = {"channel": 3, "stack": 5, "z": 4, "y": 6, "x": 8}


@pytest.fixture(scope="module")
def lazy(shared_acquisition: Path) -> xr.DataArray:
    return xr.open_dataset(shared_acquisition, engine="tiffstack").image


@pytest.fixture(scope="module")
def loaded(lazy: xr.DataArray) -> xr.DataArray:
    return lazy.copy(deep=True).load()


def indexers(size: int) -> st.SearchStrategy[object]:
    """Everything that one dimension can be indexed by: ints, slices, lists, masks."""
    at = st.integers(-size, size - 1)
    return st.one_of(
        at,
        st.slices(size),
        st.lists(at, min_size=1, max_size=size).map(np.array),
        st.lists(st.booleans(), min_size=size, max_size=size).map(np.array),
    )


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, object]]:
    """A chain of selections, transposes and rechunks; each step sees the sizes left by the last."""
    chain: list[tuple[str, object]] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["isel", "isel", "isel", "transpose", "chunk"]))
        if kind == "isel":
            dim = draw(st.sampled_from(sorted(SIZES)))
            chain.append(("isel", (dim, draw(st.integers(0, 2**32 - 1)))))
        elif kind == "transpose":
            chain.append(("transpose", draw(st.permutations(sorted(SIZES)))))
        else:
            dim = draw(st.sampled_from(sorted(SIZES)))
            chain.append(("chunk", (dim, draw(st.integers(1, 5)))))
    return chain


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), chain=steps())
def test_any_chain_equals_the_same_on_the_loaded_array(
    lazy: xr.DataArray, loaded: xr.DataArray, data: st.DataObject, chain: list[tuple[str, object]]
) -> None:
    for kind, argument in chain:
        if kind == "isel":
            dim = argument[0]  # type: ignore[index]
            if lazy.sizes.get(dim, 0) == 0:
                continue
            key = {dim: data.draw(indexers(lazy.sizes[dim]), label=dim)}
            lazy, loaded = lazy.isel(key), loaded.isel(key)
        elif kind == "transpose":
            dims = [d for d in argument if d in lazy.dims]  # type: ignore[attr-defined]
            lazy, loaded = lazy.transpose(*dims), loaded.transpose(*dims)
        else:
            dim, size = argument  # type: ignore[misc]
            if lazy.sizes.get(dim, 0):
                lazy = lazy.chunk({dim: size})
    assert type(lazy.data) is da.Array
    assert source_of(lazy.data) is not None
    xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), loaded)


@pytest.mark.parametrize("part", [slice(-9, 5, -1), slice(3, 3), slice(5, 2), np.array([], int)])
def test_nothing(lazy: xr.DataArray, loaded: xr.DataArray, part: object) -> None:
    for dim in ("stack", "z", "x"):
        found = lazy.isel({dim: part}).compute()
        xr.testing.assert_identical(found, loaded.isel({dim: part}))


@pytest.mark.parametrize("few", [0, 1000])
def test_vectorised_indexing(
    lazy: xr.DataArray, loaded: xr.DataArray, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xarray_tiffstack.array.variable.FEW", few)
    stack = xr.DataArray([4, 0, 4], dims="point")
    z = xr.DataArray([1, 3, 0], dims="point")
    xr.testing.assert_identical(
        lazy.isel(stack=stack, z=z).compute(), loaded.isel(stack=stack, z=z)
    )
    y = xr.DataArray([[1, 2], [3, 4]], dims=("a", "b"))
    xr.testing.assert_identical(
        lazy.sel(channel=560).isel(y=y, x=y).compute(), loaded.sel(channel=560).isel(y=y, x=y)
    )
    xr.testing.assert_identical(
        lazy.isel(stack=[0, 4], channel=[2, 0], z=[3, 1]).compute(),
        loaded.isel(stack=[0, 4], channel=[2, 0], z=[3, 1]),
    )


def test_what_is_no_selection_is_plain_dask(lazy: xr.DataArray, loaded: xr.DataArray) -> None:
    xr.testing.assert_identical((lazy + 1).compute(), loaded + 1)
    xr.testing.assert_identical(lazy.mean("z").compute(), loaded.mean("z"))
    assert source_of(lazy.persist().data) is None
    xr.testing.assert_identical(lazy.persist().load(), loaded)
    mask = lazy.data > 5
    np.testing.assert_array_equal(lazy.data[mask].compute(), loaded.values[loaded.values > 5])
    np.testing.assert_array_equal(lazy.data[None, ..., 0].compute(), loaded.values[None, ..., 0])
    np.testing.assert_array_equal(lazy.data.T.compute(), loaded.values.T)
    np.testing.assert_array_equal(np.swapaxes(lazy.data, 0, 1), np.swapaxes(loaded.values, 0, 1))


@pytest.mark.parametrize("chunks", [None, {}, {"z": 2}, {"stack": 2, "y": 4}])
def test_map_blocks(shared_acquisition: Path, chunks: dict[str, int] | None) -> None:
    ds = xr.open_dataset(shared_acquisition, engine="tiffstack", chunks=chunks)
    doubled = xr.map_blocks(lambda block: block * 2, ds.image)
    xr.testing.assert_equal(doubled.compute(), ds.image.compute() * 2)
    assert ds.chunk(z=2).chunksizes["z"] == (2, 2)


@pytest.mark.parametrize("key", [5, -6, (slice(None), 9), [0, 7], (0, 0, 0, 0, 0, 0)])
def test_out_of_bounds(lazy: xr.DataArray, key: object) -> None:
    with pytest.raises(IndexError):
        lazy.data[key].compute()


def test_a_block_of_one_dataset_is_one_task(lazy: xr.DataArray) -> None:
    plane = lazy.sel(channel=560).isel(stack=3).isel(z=1)
    assert len(dask.optimize(plane.data)[0].__dask_graph__()) == 1


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers(lazy: xr.DataArray, loaded: xr.DataArray, scheduler: str) -> None:
    found = lazy.chunk(stack=1).sum(("z", "y", "x")).compute(scheduler=scheduler)
    xr.testing.assert_identical(found, loaded.sum(("z", "y", "x")))


def read_bytes() -> int:
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar: ")[1].split()[0])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> xr.DataArray:
    """Stacks of 24 planes of 512 kB each."""
    folder = tmp_path_factory.mktemp("large")
    for stack in range(2):
        write(folder / reference_name(0, stack), stack, shape=(24, 512, 512))
    return xr.open_dataset(folder, engine="tiffstack").image.squeeze("channel")


PLANE = 512 * 512 * 2
SELECTIONS = {
    "sel, isel, isel": (lambda a: a.sel(stack=1).isel(z=[5]).isel(z=0), PLANE),
    "chunked first": (lambda a: a.chunk(z=8).isel(stack=1).isel(z=5), PLANE),
    "chunked after": (lambda a: a.isel(stack=1).chunk(z=8).isel(z=5), PLANE),
    "transposed": (lambda a: a.transpose("x", "z", "y", "stack").isel(stack=1).isel(z=5), PLANE),
    "a tenth of the rows": (lambda a: a.isel(stack=1)[5][:51], PLANE // 10),
    "another index": (lambda a: a.swap_dims(stack="time").isel(time=1).isel(z=5), PLANE),
    "a condition": (lambda a: a.sel(stack=a["stack"] > 0).isel(z=5)[0], PLANE),
    "a query": (lambda a: a.to_dataset().query(stack="stack == 1").image.isel(z=5), PLANE),
    "points": (
        lambda a: a.isel(stack=xr.DataArray([0, 1], dims="p"), z=xr.DataArray([3, 9], dims="p")),
        2 * PLANE,
    ),
    "a kymograph": (lambda a: a.isel(z=5, y=7), 2 * 1024),
    "every eighth plane": (lambda a: a.isel(z=slice(None, None, -8)), 6 * PLANE),
    "a list of planes": (lambda a: a.isel(stack=0).isel(z=[20, 3]).isel(y=slice(4)), 8 * 1024),
}


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="counts bytes as Linux does")
@pytest.mark.parametrize("name", SELECTIONS)
def test_reads_what_is_named_and_no_more(large: xr.DataArray, name: str) -> None:
    select, nbytes = SELECTIONS[name]
    select(large).compute(scheduler="synchronous")  # imports whatever is imported late
    before = read_bytes()
    select(large).compute(scheduler="synchronous")
    assert read_bytes() - before <= nbytes + 64 * 1024

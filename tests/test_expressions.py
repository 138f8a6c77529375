"""With dask-array, which carries a selection through computations to the files.

It is registered for a whole process, so that each test has a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import reference_name, write

pytest.importorskip("dask_array", reason="dask-array is not installed")

HEAD = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
import dask_array.xarray
dask_array.xarray.register()
import numpy as np, xarray as xr
from conftest import pixels, to_ome_zarr
from test_lazy import read_bytes
from xarray_tiffstack.ome_zarr import verify
raw, saved = sys.argv[2:]
"""
OPENED = """
ds = xr.open_dataset(raw, engine="tiffstack")
image = ds.image
assert isinstance(image.data, dask_array.Array)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels of three stacks of 24 planes of 512 kB each."""
    folder = tmp_path_factory.mktemp("large")
    for i in range(6):
        write(folder / reference_name(i // 3, i % 3), i, shape=(24, 512, 512))
    return folder


def run(code: str, raw: Path, saved: Path) -> str:
    command = [sys.executable, "-W", "ignore", "-c", HEAD + code]
    places = map(str, (Path(__file__).parent, raw, saved))
    done = subprocess.run([*command, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


COMPUTED = {
    "a difference": ("(a - 100).isel(stack=1, z=5)", 2),
    "of one file": ("(a.astype('float32') * 2).isel(channel=1, stack=2, z=5)", 1),
    "of several planes": ("np.sqrt(a + 1.0).isel(z=slice(5, 7), stack=0)", 4),
    "of chunks": ("(a.chunk(z=1) * 2).isel(z=5)", 6),
    "without a computation": ("a.isel(z=[5, 9]).transpose('z', ...)", 12),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_a_selection_of_what_was_computed_reads_what_it_names(
    large: Path, tmp_path: Path, name: str
) -> None:
    code, planes = COMPUTED[name]
    told = run(
        f"""{OPENED}
lazy = (lambda a: {code})(image)
(image - 1).isel(z=0, stack=0, channel=0).values  # what is imported now is not read later
before = read_bytes()
found = lazy.compute()
print(read_bytes() - before)
np.testing.assert_array_equal(found, (lambda a: {code})(image.compute()))
""",
        large,
        tmp_path,
    )
    assert planes * 2**19 <= int(told) < (planes + 0.5) * 2**19 + 6 * 2**14


def test_all_else_works_as_with_dask(shared_acquisition: Path, tmp_path: Path) -> None:
    run(
        f"""{OPENED}
again = pickle.loads(pickle.dumps(ds))
xr.testing.assert_identical(again.load(), ds.compute())
points = dict.fromkeys(("channel", "stack"), xr.DataArray([0, 1], dims="p"))
np.testing.assert_array_equal(image.isel(points), image.compute().isel(points))
ds.to_zarr(saved + "/plain.zarr")
xr.testing.assert_equal(xr.open_zarr(saved + "/plain.zarr").image.compute(), image.compute())
assert to_ome_zarr(ds, saved + "/a.zarr", levels=2, verify=True).verified.ok
assert ds.tiffstack.verify(saved + "/a.zarr").rechecked == 15
assert ds.tiffstack.report().missing == []
""",
        shared_acquisition,
        tmp_path,
    )


def test_a_mosaic_is_an_array_of_dask(tmp_path: Path) -> None:
    for x in range(3):
        write(tmp_path / "raw" / f"a_tile{x}.tif", x)
    run(
        """
import dask.array
ds = xr.open_dataset(raw, engine="tiffstack", pattern="a_tile{n:d}.tif", mosaic={"x": "n"})
assert isinstance(ds.image.data, dask.array.Array)
np.testing.assert_array_equal(ds.image.chunk(z=1).isel(z=1), ds.image.compute().isel(z=1))
""",
        tmp_path / "raw",
        tmp_path,
    )

"""What a microscope's own computer needs: Windows, where some of POSIX is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from xarray_tiffstack.source import below, inside

if TYPE_CHECKING:
    from pathlib import Path

# Without os.pread and the module resource, as there.
CORE = """
import os, sys
for name in ("pread", "preadv", "pwrite", "mkfifo", "getuid", "geteuid", "fork"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("resource", "pwd", "grp"):
    sys.modules[name] = None
import xarray as xr, xarray_tiffstack
ds = xr.open_dataset(sys.argv[1], engine="tiffstack", validate="headers")
assert int(ds.image.sel(channel=560, stack=3, z=2).isel(y=1, x=5)) == int(sys.argv[3])
assert ds.tiffstack.report().matched == 15
summary = ds.tiffstack.to_ome_zarr(sys.argv[2], verify=True, progress=False)
assert summary.verified.ok and ds.tiffstack.verify(sys.argv[2], progress=False).ok
with xr.open_datatree(sys.argv[2], engine="zarr") as tree:
    assert (tree["0"].image.transpose(*ds.image.dims) == ds.image).all()
print(summary)
"""


def test_the_core_without_what_windows_lacks(shared_acquisition: Path, tmp_path: Path) -> None:
    from conftest import pixels

    value = pixels(8)[2, 1, 5]
    command = [sys.executable, "-W", "error", "-c", CORE, shared_acquisition, tmp_path / "a.zarr"]
    done = subprocess.run([*command, str(value)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "15 files" in done.stdout


PARTS = st.text("abcZ 09_-.()µ", min_size=1).filter(lambda part: part.strip(". ") == part != "")


@given(st.lists(PARTS, min_size=1, max_size=4), st.lists(PARTS, min_size=1, max_size=4))
def test_paths_of_windows(folders: list[str], parts: list[str]) -> None:
    root = PureWindowsPath("D:/", *folders)
    path = root.joinpath(*parts)
    name = below(str(root), str(path), "\\")
    assert name == path.relative_to(root).as_posix()
    assert [PureWindowsPath(p) for p in inside(str(root), [name], "\\")] == [path]


def test_the_root_of_a_drive() -> None:
    assert below("D:\\", "D:\\raw\\a.tif", "\\") == "raw/a.tif"
    assert inside("D:\\", ["raw/a.tif"], "\\") == ["D:\\raw\\a.tif"]

"""napari's reader, as npe2 finds it, in napari's viewer without its window."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from conftest import reference_name, write_acquisition

import xarray_tiffstack.look
from xarray_tiffstack.look.napari import get_reader, layers

if TYPE_CHECKING:
    from collections.abc import Iterator

npe2 = pytest.importorskip("npe2")
napari = pytest.importorskip("napari")
pytestmark = pytest.mark.filterwarnings("ignore")  # others' packages

MANIFEST = Path(xarray_tiffstack.look.__file__).with_name("napari.yaml")


@pytest.fixture
def viewer() -> Iterator[Any]:
    """A viewer that knows this reader, whether or not the package is installed."""
    from napari.components import ViewerModel

    manager = npe2.PluginManager.instance()
    manager.discover()
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    installed = manifest.name in manager
    if not installed:
        manager.register(manifest)
    yield ViewerModel()
    if not installed:
        manager.unregister(manifest.name)


def test_the_package_names_the_manifest() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["napari.manifest"] == {
        project["name"]: f"xarray_tiffstack.look:{MANIFEST.name}"
    }


def test_layers(tmp_path: Path, viewer: Any) -> None:
    folder = write_acquisition(tmp_path / "raw")
    opened = viewer.open(str(folder), plugin="xarray-tiffstack")
    assert [layer.name for layer in opened] == ["488 nm", "560 nm", "642 nm"]
    colours = [layer.colormap.colors[-1][:3].round(1).tolist() for layer in opened]
    np.testing.assert_allclose(colours, [[0, 1, 1], [0.7, 1, 0], [1, 0, 0]], atol=0.01)
    assert tuple(viewer.dims.axis_labels) == ("stack", "z", "y", "x")
    for ch, layer in enumerate(opened):
        np.testing.assert_allclose(layer.scale, (43.748, 1, 1, 1), rtol=1e-3)
        low, high = layer.contrast_limits
        assert 0 <= low < high < 120 * 192
        for stack in range(5):
            viewer.dims.set_current_step((0, 1), (stack, 2))
            shown = np.asarray(layer._data_view)
            np.testing.assert_array_equal(
                shown, tifffile.imread(folder / reference_name(ch, stack))[2]
            )


def test_scale_and_units(tmp_path: Path) -> None:
    folder = write_acquisition(tmp_path / "raw")
    ds = xr.open_dataset(folder, engine="tiffstack", voxel_size=(0.4, 0.1, 0.2))
    for data, about, kind in layers(ds):
        assert kind == "image"
        assert data.dims == ("stack", "z", "y", "x")
        assert about["scale"] == pytest.approx((43.748, 0.4, 0.1, 0.2), rel=1e-3)
        assert about["units"] == ("second", "micrometer", "micrometer", "micrometer")


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system counts no bytes")
def test_a_step_reads_a_plane(tmp_path: Path, viewer: Any) -> None:
    plane = 512 * 512 * 2
    for stack in range(3):
        path = tmp_path / "raw" / reference_name(0, stack)
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, np.full((32, 512, 512), stack, "uint16"), photometric="minisblack")

    def read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    viewer.open(str(tmp_path / "raw"), plugin="xarray-tiffstack")
    viewer.dims.set_current_step(0, 1)
    before = read()
    viewer.dims.set_current_step(1, 9)
    assert plane <= read() - before < 3 * plane


def test_what_it_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "notes.txt")) is None
    assert get_reader([str(tmp_path)]) is None


def test_view_with_napari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window is left out, and everything else is what the command shows."""
    from napari.components import ViewerModel

    from xarray_tiffstack.cli import main

    folder, shown = write_acquisition(tmp_path / "raw"), []
    monkeypatch.setitem(sys.modules, "qtpy", ModuleType("qtpy"))
    monkeypatch.setattr(sys.modules["qtpy"], "API_NAME", "none", raising=False)
    monkeypatch.setattr(napari, "run", lambda: None)
    monkeypatch.setattr(
        napari, "Viewer", lambda **options: shown.append(ViewerModel(**options)) or shown[-1]
    )
    command = ["view", str(folder), "--with", "napari", "--voxel-size", "z=0.4,y=0.1,x=0.1"]
    assert main([*command, "--layout", "3d"]) == 0
    (viewer,) = shown
    assert viewer.dims.ndisplay == 3
    assert [layer.name for layer in viewer.layers] == ["488 nm", "560 nm", "642 nm"]
    np.testing.assert_allclose(viewer.layers[0].scale[1:], (0.4, 0.1, 0.1))
    assert main([*command, "--layout", "4panel"]) == 1


def test_without_napari_it_says_what_to_install(tmp_path: Path) -> None:
    folder = write_acquisition(tmp_path / "raw")
    code = (
        "import sys; sys.modules['napari'] = None; from xarray_tiffstack.cli import main; "
        f"sys.exit(main(['view', {str(folder)!r}, '--with', 'napari']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert 'pip install "napari[all]"' in done.stderr

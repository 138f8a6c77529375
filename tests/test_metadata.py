"""What a TIFF says about its own scale, and what is junk."""

from __future__ import annotations

import gzip
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from xarray_tiffstack.tiff import metadata
from xarray_tiffstack.tiff.scale import Metadata, from_micromanager

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, **options: object) -> Path:
    """Write a small stack."""
    pixels = np.zeros((4, 8, 9), "uint16")
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


def ome(path: Path, attributes: str, inside: str = "", images: int = 1) -> Path:
    """Write a stack with hand-made OME-XML."""
    xml = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">' + "".join(
        f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="9" SizeY="8" SizeZ="4" SizeC="1" SizeT="1" {attributes}>{inside}</Pixels></Image>'
        for i in range(images)
    )
    return write(path, description=xml + "</OME>", metadata=None)


# --- Real files


@pytest.mark.parametrize(
    ("name", "voxel_size", "source"),
    [
        ("aollsm_psf642", {"z": 0.1, "y": 0.10188087, "x": 0.10188087}, "amira"),
        ("leica_matrix_screener", {"y": 0.24050019550342, "x": 0.24050019550342}, "ome"),
        ("metaxpress_1well_tzmix", {"y": 13.5504, "x": 13.5504}, "metaseries"),
        ("wipp_tiles_4x4", {}, None),  # 352.78 um: 72 dpi
        ("bdp2_microglia_sparse_t84_105_122", {}, None),  # 72 dpi
        ("mm_alpha20_singleplane", {}, None),  # zero resolution, negative interval
        ("ome_tiled_minerva", {}, None),  # in units of pixels
        ("brainglobe_mismatched_dims", {}, None),  # ImageJ without a unit
        ("cp_human_arrayscan", {}, None),
        ("microfilm_good_t_unpadded", {}, None),
    ],
)
def test_real_files(
    data: Path, name: str, voxel_size: dict[str, float], source: str | None
) -> None:
    path = min(p for p in (data / name).rglob("*") if p.suffix.lower() in {".tif", ".tiff"})
    found = metadata(path)
    assert dict(found.voxel_size) == pytest.approx(voxel_size, rel=1e-6)
    assert found.source == dict.fromkeys(voxel_size, source)
    assert found.time_interval is None


def test_real_micro_manager_file(data: Path, tmp_path: Path) -> None:
    packed = min((data / "mm_mmstack_14compat").glob("*.tif.gz"))
    path = tmp_path / packed.stem
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    found = metadata(path)
    assert found.voxel_size == {"z": 5.0, "y": 1.0, "x": 1.0}
    assert found.channels == ("Cy5", "DAPI")
    assert found.time_interval == 5000


# --- OME-XML


def test_ome_units_and_names(tmp_path: Path) -> None:
    sizes = 'PhysicalSizeX="200" PhysicalSizeXUnit="nm" PhysicalSizeY="0.2E0" PhysicalSizeZ="1E-3" '
    sizes += 'PhysicalSizeZUnit="mm" TimeIncrement="2" TimeIncrementUnit="min"'
    names = "".join(
        f'<Channel ID="Channel:0:{i}" Name="{n}"/>' for i, n in enumerate(("GFP", "RFP"))
    )
    found = metadata(ome(tmp_path / "a.ome.tif", sizes, names))
    assert dict(found.voxel_size) == pytest.approx({"z": 1.0, "y": 0.2, "x": 0.2})
    assert found.source == dict.fromkeys("zyx", "ome")
    assert found.channels == ("GFP", "RFP")
    assert found.time_interval == 120_000


@pytest.mark.parametrize(
    "junk",
    [
        'PhysicalSizeX="352.77777777777777"',  # 72 dpi
        'PhysicalSizeX="264.583"',  # 96 dpi
        'PhysicalSizeX="84.6667"',  # 300 dpi
        'PhysicalSizeX="1.0" PhysicalSizeXUnit="pixel"',
        'PhysicalSizeX="1.0" PhysicalSizeXUnit="reference frame"',
        'PhysicalSizeX="0.0" TimeIncrement="0.0"',
        'PhysicalSizeX="-0.3" TimeIncrement="-1"',
        'PhysicalSizeX="NaN" TimeIncrement="inf"',
        'PhysicalSizeX="" TimeIncrement="soon"',
    ],
)
def test_ome_junk(tmp_path: Path, junk: str) -> None:
    found = metadata(ome(tmp_path / "a.ome.tif", junk, '<Channel ID="Channel:0:0"/>'))
    assert (found.voxel_size, found.channels, found.time_interval) == ({}, (), None)


def test_ome_that_is_no_xml(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", description="<OME><Image></OME>", metadata=None)
    assert metadata(path).voxel_size == {}


# --- ImageJ


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("micron", 1),
        ("microns", 1),
        ("um", 1),
        ("\\u00B5m", 1),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("inch", 25400),
        ("pixel", None),
        ("", None),
    ],
)
def test_imagej_units(tmp_path: Path, unit: str, factor: float | None) -> None:
    said = {"unit": unit, "spacing": 0.002, "finterval": 1.5, "axes": "ZYX"}
    path = write(tmp_path / "a.tif", imagej=True, resolution=(4000, 2000), metadata=said)
    found = metadata(path)
    expected = {"z": 0.002, "y": 1 / 2000, "x": 1 / 4000}
    expected = {axis: size * factor for axis, size in expected.items()} if factor else {}
    assert dict(found.voxel_size) == pytest.approx(expected)
    assert found.time_interval == 1500


def test_imagej_in_micro_signs(tmp_path: Path) -> None:
    """ImageJ writes the micro sign in its own 8-bit text."""
    path = write(tmp_path / "a.tif", imagej=True, resolution=(10, 10), metadata={"unit": "Qm"})
    path.write_bytes(path.read_bytes().replace(b"unit=Qm", b"unit=\xb5m"))
    assert metadata(path).voxel_size == {"y": 0.1, "x": 0.1}


def test_imagej_junk(tmp_path: Path) -> None:
    said = {"unit": "micron", "finterval": -1.23}
    path = write(tmp_path / "a.tif", imagej=True, resolution=(2834e-6, 2834e-6), metadata=said)
    found = metadata(path)
    assert (found.voxel_size, found.time_interval) == ({}, None)


# --- Micro-Manager


def test_micro_manager_summary() -> None:
    summary = {"PixelSize_um": 0.16, "z-step_um": -0.5, "Interval_ms": 0, "ChNames": ["A", "B"]}
    found = from_micromanager(summary)
    assert found.voxel_size == {"y": 0.16, "x": 0.16}
    assert found.source == dict.fromkeys("yx", "micromanager")
    assert found.channels == ("A", "B")
    assert found.time_interval is None
    assert from_micromanager({}) == from_micromanager({"ChNames": None}) == Metadata()


# --- Resolution tags


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((50_000, 25_000), "CENTIMETER", {"y": 0.4, "x": 0.2}),
        ((25_400, 25_400), "INCH", {}),  # of programs that know of none
        ((10_000, 20_000), "CENTIMETER", {"y": 0.5}),
        ((25_400, 25_400), "NONE", {}),
        ((72, 72), "INCH", {}),
        ((96, 96), "INCH", {}),
        ((300, 300), "INCH", {}),
        ((1, 1), "INCH", {}),
        ((28.346, 28.346), "CENTIMETER", {}),
    ],
)
def test_resolution_tags(
    tmp_path: Path, resolution: object, unit: str, expected: dict[str, float]
) -> None:
    path = write(tmp_path / "a.tif", resolution=resolution, resolutionunit=unit)
    found = metadata(path)
    assert dict(found.voxel_size) == pytest.approx(expected)
    assert set(found.source.values()) <= {"tiff"}


@pytest.mark.parametrize("ratio", [(0, 1), (1, 0), (0, 0)])
def test_zero_in_a_resolution(tmp_path: Path, ratio: tuple[int, int]) -> None:
    path = write(tmp_path / "a.tif", resolution=(7, 7), resolutionunit="CENTIMETER")
    with tifffile.TiffFile(path) as tif:
        places = [tif.pages[0].tags[code].valueoffset for code in (282, 283)]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place : place + 8] = struct.pack("<2I", *ratio)
    path.write_bytes(content)
    assert metadata(path).voxel_size == {}


def test_the_better_source_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    said = {"axes": "ZYX", "PhysicalSizeX": 0.3, "PhysicalSizeZ": 2.0}
    write(path, ome=True, metadata=said, resolution=(10_000, 5_000), resolutionunit="CENTIMETER")
    found = metadata(path)
    assert dict(found.voxel_size) == pytest.approx({"z": 2.0, "y": 2.0, "x": 0.3})
    assert found.source == {"z": "ome", "y": "tiff", "x": "ome"}


def test_bounding_box(tmp_path: Path) -> None:
    box = "BoundingBox 0 0.800000 0 1.400000 0 -1.500000"
    found = metadata(write(tmp_path / "a.tif", description=box, metadata=None))
    assert dict(found.voxel_size) == pytest.approx({"y": 0.2, "x": 0.1})  # no negative step
    box = "BoundingBox 1 1.800000 2 3.400000 5 6.500000"
    found = metadata(write(tmp_path / "a.tif", description=box, metadata=None))
    assert dict(found.voxel_size) == pytest.approx({"z": 0.5, "y": 0.2, "x": 0.1})


def test_no_tiff(tmp_path: Path) -> None:
    path = tmp_path / "empty.tif"
    path.write_bytes(b"")
    with pytest.raises(OSError, match=r"empty\.tif is empty"):
        metadata(path)

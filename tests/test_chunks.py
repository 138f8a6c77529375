"""Chunks and shards that tensorstore writes, against those of zarr itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xarray_tiffstack.ome_zarr.pixels import Pixels, open_pixels
from xarray_tiffstack.ome_zarr.settings import blosc

if TYPE_CHECKING:
    from pathlib import Path

# Of gzip and zlib the packages bring other versions, whose bytes differ; of bare Zstandard some
# versions write the length of a chunk into it, and some do not.
CODECS: dict[int, list[Any]] = {
    2: [
        None,
        blosc("lz4", 5, "0.4"),
        numcodecs.Blosc("zstd", clevel=3, shuffle=1),
        numcodecs.Zstd(level=1),
        numcodecs.LZ4(),  # tensorstore does not know it
    ],
    3: [
        None,
        blosc("lz4", 5, "0.5"),
        zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4),
        zarr.codecs.ZstdCodec(level=3, checksum=True),
    ],
}
DTYPES = ["bool", "uint8", "int16", "uint16", "uint64", "float32", "float64", "complex64"]


def create(
    folder: Path, shape: Any, chunk: Any, dtype: str, version: int, codec: Any, shard: Any = None
) -> tuple[zarr.Array[Any], Pixels, Pixels]:
    """One array, as zarr opens it, and as both engines write it."""
    array = zarr.create_array(
        folder / "a",
        shape=shape,
        chunks=chunk,
        shards=shard,
        dtype=dtype,
        compressors=codec,
        zarr_format=version,
        fill_value=0 if version == 3 else None,
        chunk_key_encoding={"name": {2: "v2", 3: "default"}[version], "separator": "/"},
        overwrite=True,
    )
    driver = "zarr3" if version == 3 else "zarr"
    return (array, *(open_pixels(folder, "a", driver, engine) for engine in ("auto", "zarr")))


def stored(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def some_pixels(shape: Any, dtype: str, seed: int) -> np.ndarray:
    """Pixels of which a part is 0, so that entire chunks are now and then."""
    draw = np.random.default_rng(seed)
    found = draw.integers(0, 200, shape) * (draw.random(shape[:1]) < 0.5).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    return found.astype(dtype)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.data(),
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("version", [2, 3])
def test_the_bytes_are_those_of_zarr(tmp_path, version, data, lengths, dtype, seed):
    shape, chunk = zip(*lengths, strict=True)
    codec = data.draw(st.sampled_from(CODECS[version]), "codec")
    *_, theirs = create(tmp_path / "theirs", shape, chunk, dtype, version, codec)
    array, own, _ = create(tmp_path / "own", shape, chunk, dtype, version, codec)
    pixels = some_pixels(shape, dtype, seed)
    everything = tuple(slice(0, n) for n in shape)
    theirs[everything] = own[everything] = pixels
    np.testing.assert_array_equal(array[...], pixels)  # as zarr reads it
    if isinstance(codec, numcodecs.Zstd | zarr.codecs.ZstdCodec):
        assert stored(tmp_path / "own").keys() == stored(tmp_path / "theirs").keys()
    else:
        assert stored(tmp_path / "own") == stored(tmp_path / "theirs")
    region = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))))
        for n in shape
    )
    for each in (own, theirs):
        np.testing.assert_array_equal(each[region], pixels[region])
    own[everything] = np.zeros_like(pixels)  # what was stored before is gone
    np.testing.assert_array_equal(array[...], 0)
    assert len(stored(tmp_path / "own")) == (1 if version == 3 else 2)


@pytest.mark.parametrize("codec", CODECS[3], ids=str)
def test_shards_are_read_by_either(tmp_path, codec):
    shape, chunk, shard = (10, 13), (2, 4), (4, 8)
    array, own, theirs = create(tmp_path, shape, chunk, "uint16", 3, codec, shard)
    pixels = some_pixels(shape, "uint16", 0)
    for writer, reader in ((own, theirs), (theirs, own)):
        array[...] = 0
        writer[0:10, 0:13] = pixels
        np.testing.assert_array_equal(array[...], pixels)
        np.testing.assert_array_equal(reader[3:9, 1:12], pixels[3:9, 1:12])


@pytest.mark.parametrize("version", [2, 3])
def test_negative_zeros_are_kept(tmp_path, version):
    array, own, _ = create(tmp_path, (4,), (2,), "float32", version, None)
    own[(slice(0, 4),)] = np.array([-0.0, 0.0, 0.0, 0.0], "float32")
    assert np.signbit(array[...]).tolist() == [True, False, False, False]
    assert not (tmp_path / "a" / ("c/1" if version == 3 else "1")).exists()


def test_a_damaged_shard_is_noticed(tmp_path):
    _, own, theirs = create(tmp_path, (4,), (2,), "uint16", 3, None, (4,))
    own[(slice(0, 4),)] = np.arange(1, 5, dtype="uint16")
    path = tmp_path / "a/c/0"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    for each in (own, theirs):
        with pytest.raises(ValueError, match=r"[Cc]hecksum|CRC|[Dd]igest"):
            each[(slice(0, 4),)]

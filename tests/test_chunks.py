"""Chunks and shards against those that zarr itself writes."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xarray_tiffstack.ome_zarr.chunks import Chunks, codec_of

from xarray_tiffstack.ome_zarr.plan import blosc

if TYPE_CHECKING:
    from pathlib import Path

CODECS: dict[int, list[Any]] = {
    2: [
        None,
        blosc("lz4", 5, "0.4"),
        {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0},
        {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": -1, "blocksize": 0},
        {"id": "zstd", "level": 1, "checksum": False},
        {"id": "zlib", "level": 2},
    ],
    3: [
        None,
        blosc("lz4", 5, "0.5"),
        zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        zarr.codecs.BloscCodec(cname="zlib", clevel=1, shuffle="noshuffle", blocksize=1024),
        zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4),
        zarr.codecs.ZstdCodec(level=3, checksum=True),
        zarr.codecs.GzipCodec(level=4),
    ],
}


@pytest.fixture(autouse=True)
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gzip writes down in which second it compressed."""
    monkeypatch.setattr(gzip, "time", SimpleNamespace(time=lambda: 0.0))


def create(
    folder: Path, shape: Any, chunk: Any, dtype: str, version: int, codec: Any, shard: Any = None
) -> tuple[zarr.Array[Any], Chunks]:
    """One array, as zarr opens it and as it is opened here."""
    array = zarr.create_array(
        folder,
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
    forms = [c.get_config() if version == 2 else c.to_dict() for c in array.compressors]
    kept = json.loads(json.dumps(forms, default=lambda form: getattr(form, "value", form)))
    return array, Chunks(folder, array, codec_of(kept, np.dtype(dtype)))


def stored(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def some_pixels(shape: Any, dtype: str, seed: int) -> np.ndarray:
    """Pixels of which a part is 0, so that whole chunks are now and then."""
    draw = np.random.default_rng(seed)
    found = draw.integers(0, 200, shape) * (draw.random(shape[:1]) < 0.5).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    return found.astype(dtype)


lengths = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4)
dtypes = st.sampled_from(["uint8", "int16", "uint16", "uint32", "float32", "float64"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data(), lengths=lengths, dtype=dtypes, seed=st.integers(0, 99))
@pytest.mark.parametrize("version", [2, 3])
def test_the_bytes_are_those_of_zarr(tmp_path, version, data, lengths, dtype, seed):
    shape, chunk = zip(*lengths, strict=True)
    codec = data.draw(st.sampled_from(CODECS[version]), "codec")
    theirs, _ = create(tmp_path / "theirs", shape, chunk, dtype, version, codec)
    array, own = create(tmp_path / "own", shape, chunk, dtype, version, codec)
    pixels = some_pixels(shape, dtype, seed)
    everything = tuple(slice(0, n) for n in shape)
    theirs[...] = pixels
    own[everything] = pixels
    assert stored(tmp_path / "own") == stored(tmp_path / "theirs")
    region = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))))
        for n in shape
    )
    np.testing.assert_array_equal(own[region], pixels[region])
    own[everything] = np.zeros_like(pixels)  # what was stored before is gone
    np.testing.assert_array_equal(array[...], 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.data(),
    lengths=st.lists(
        st.tuples(st.integers(1, 9), *[st.integers(1, 3)] * 2), min_size=1, max_size=3
    ),
    dtype=dtypes,
    seed=st.integers(0, 99),
)
def test_shards_go_both_ways(tmp_path, data, lengths, dtype, seed):
    shape, chunk, times = zip(*lengths, strict=True)
    shard = [n * by for n, by in zip(chunk, times, strict=True)]
    codec = data.draw(st.sampled_from(CODECS[3]), "codec")
    theirs, reader = create(tmp_path / "theirs", shape, chunk, dtype, 3, codec, shard)
    array, own = create(tmp_path / "own", shape, chunk, dtype, 3, codec, shard)
    pixels = some_pixels(shape, dtype, seed)
    theirs[...] = pixels
    own[tuple(slice(0, n) for n in shape)] = pixels
    np.testing.assert_array_equal(array[...], pixels)
    assert stored(tmp_path / "own").keys() == stored(tmp_path / "theirs").keys()
    region = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))))
        for n in shape
    )
    for each in (reader, own):
        np.testing.assert_array_equal(each[region], pixels[region])


@pytest.mark.parametrize("shard", [None, (8, 8)])
def test_tensorstore_reads_them(tmp_path, shard):
    tensorstore = pytest.importorskip("tensorstore")
    _, own = create(tmp_path / "a", (10, 13), (4, 4), "uint16", 3, blosc("lz4", 5, "0.5"), shard)
    pixels = some_pixels((10, 13), "uint16", 0)
    own[0:10, 0:13] = pixels
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "a")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), pixels)


def test_negative_zeros_are_kept(tmp_path):
    array, own = create(tmp_path / "a", (4,), (2,), "float32", 3, None)
    own[(slice(0, 4),)] = np.array([-0.0, 0.0, 0.0, 0.0], "float32")
    assert np.signbit(array[...]).tolist() == [True, False, False, False]
    assert not (tmp_path / "a/c/1").exists()


def test_a_damaged_shard_is_noticed(tmp_path):
    _, own = create(tmp_path / "a", (4,), (2,), "uint16", 3, None, (4,))
    own[(slice(0, 4),)] = np.arange(1, 5, dtype="uint16")
    path = tmp_path / "a/c/0"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="index of the shard"):
        own[(slice(0, 4),)]


def test_what_is_not_written_here_says_so():
    for codecs in ([{"name": "lzma", "configuration": {}}], [{"id": "zlib"}, {"id": "zlib"}]):
        with pytest.raises(NotImplementedError):
            codec_of(codecs, np.dtype("uint16"))
    with pytest.raises(NotImplementedError):
        codec_of([{"id": "zlib"}], np.dtype("complex64"))

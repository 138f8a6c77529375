"""A Dataset as VirtualiZarr has them: labels in memory, and pixels as references to files."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
import zarr

from xarray_tiffstack.index.codecs import create_array
from xarray_tiffstack.index.references import DECODE, References, check_copies, references
from xarray_tiffstack.messages import one_of
from xarray_tiffstack.storage import is_url, split

RESERVED = str.maketrans({"%": "%25", "#": "%23", "?": "%3F"})
"""What means something else in an address; VirtualiZarr and fsspec take all else as it is."""


def virtual(ds: xr.Dataset, copy: bool | Literal["auto"] = "auto") -> xr.Dataset:
    """Give a Dataset of VirtualiZarr; ``ds.tiffstack.virtual()`` says what the options mean."""
    one_of("copy", copy, (True, False, "auto"))
    try:
        from virtualizarr.manifests import ChunkManifest, ManifestArray
    except ImportError:
        raise ImportError(
            'virtual() needs VirtualiZarr: pip install "xarray-tiffstack[virtual]" '
            "(Python 3.12 or newer)"
        ) from None
    if "image" not in ds.data_vars:
        raise ValueError("there is no variable 'image' to refer to")
    variable = ds.variables["image"]
    refs = references(variable)
    check_copies(refs, variable.dtype.itemsize, variable.nbytes, copy)
    paths, inlined = _paths(refs), _inlined(variable, refs)
    offsets, lengths = (
        np.where(refs.referred, each, 0).astype("u8") for each in (refs.offsets, refs.counts)
    )
    for at, data in inlined.items():
        paths[at], lengths[at] = "__inlined__", len(data)
    manifest = ChunkManifest.from_arrays(
        paths=paths, offsets=offsets, lengths=lengths, validate_paths=False, inlined=inlined
    )
    made: Any = _array(zarr.group(zarr.storage.MemoryStore()), refs, variable, variable.shape)
    image = xr.Variable(variable.dims, ManifestArray(made.metadata, manifest), variable.attrs)
    loaded = ds.drop_vars("image").load()
    texts = {name: each.astype(str) for name, each in loaded.variables.items() if _is_text(each)}
    labels = {name: (each.dims, each.data, each.attrs) for name, each in texts.items()}
    return loaded.assign(labels).assign(image=image)


def _is_text(variable: xr.Variable) -> bool:
    """Whether values are texts in an array of objects, which kerchunk's references cannot hold."""
    return variable.dtype.kind == "O" and all(
        isinstance(each, str) for each in variable.values.flat
    )


def _array(root: zarr.Group, refs: References, variable: xr.Variable, shape: Any) -> Any:
    """Create an array of Zarr 3 whose chunks are stored as those of files are."""
    # VirtualiZarr takes the names of dimensions from the variable, which may get more of them.
    create_array(root, "image", refs, shape, None, variable.dtype, {}, 3)
    return root["image"]


def _paths(refs: References) -> np.ndarray:
    """Address of the file of each chunk; none where it is of no file."""
    urls = np.array(["", *(_address(path) for path in refs.files)], np.dtypes.StringDType())
    return np.asarray(urls[np.where(refs.referred, refs.which + 1, 0)])


def _address(path: str) -> str:
    if is_url(path):
        return path if split(path).kind == "http" else path.translate(RESERVED)
    path = path.replace("\\", "/").translate(RESERVED)
    return f"file://{path if path.startswith('/') else f'/{path}'}"


def _inlined(variable: xr.Variable, refs: References) -> dict[tuple[int, ...], bytes]:
    """Read what cannot be referred to, and store it as the files store theirs."""
    found = {}
    for at in np.argwhere(refs.offsets == DECODE).tolist():
        part = tuple(slice(k * n, (k + 1) * n) for k, n in zip(at, refs.chunks, strict=True))
        pixels = np.asarray(variable[part].compute(scheduler="synchronous").values)
        held: dict[str, Any] = {}
        with zarr.config.set({"array.write_empty_chunks": True}):
            one = _array(zarr.group(zarr.storage.MemoryStore(held)), refs, variable, refs.chunks)
            one[tuple(map(slice, pixels.shape))] = pixels
        (data,) = (each for key, each in held.items() if not key.endswith("zarr.json"))
        found[tuple(at)] = data.to_bytes()
    return found

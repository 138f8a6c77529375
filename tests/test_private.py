"""Names of xarray, dask and zarr that are not part of their public interface."""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import xarray_tiffstack

ROOM = Path(xarray_tiffstack.__file__).parent / "array"

# Where each is used for what is in docs/design.md.
PRIVATE = (
    "dask.array.core:Array",
    "dask.array.core:Array._meta",
    "dask.array.core:normalize_chunks",
    "dask.base:tokenize",
    "dask.blockwise:Blockwise",
    "dask.blockwise:Blockwise.io_deps",
    "dask.blockwise:BlockwiseDep",
    "dask.blockwise:blockwise",
    "dask.highlevelgraph:HighLevelGraph",
    "dask.highlevelgraph:HighLevelGraph.from_collections",
    "dask.highlevelgraph:MaterializedLayer",
    "xarray:Variable._broadcast_indexes",
    "xarray:Variable._data",
    "xarray:Variable._finalize_indexing_result",
    "xarray:Variable._replace",
    "xarray:Variable.to_base_variable",
    "xarray.core.indexing:CopyOnWriteArray",
    "xarray.core.indexing:IndexingSupport",
    "xarray.core.indexing:MemoryCachedArray",
    "xarray.core.indexing:VectorizedIndexer",
    "xarray.core.indexing:apply_indexer",
    "xarray.core.indexing:as_indexable",
    "xarray.core.indexing:decompose_indexer",
    "zarr.core.sync:sync",
)


def exists(place: str) -> bool:
    """Whether a name is there, be it made by a class or by its instances."""
    module, _, path = place.partition(":")
    found = import_module(module)
    for name in path.split("."):
        if hasattr(found, name):
            found = getattr(found, name)
        elif name not in {slot for cls in found.__mro__ for slot in getattr(cls, "__slots__", ())}:
            return name in Path(import_module(found.__module__).__file__ or "").read_text()
    return True


@pytest.mark.parametrize("place", PRIVATE)
def test_a_private_name_is_still_there(place: str) -> None:
    package = place.split(".")[0].split(":")[0]
    assert exists(place), (
        f"{package} {version(package)} has no {place} any more: xarray_tiffstack needs another way "
        " to do what docs/design.md says it is for"
    )


def imported(path: Path) -> set[str]:
    """Names that a module imports from below the top of xarray and dask."""
    return {
        f"{node.module}:{alias.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and "." in node.module
        if node.module.split(".")[0] in ("xarray", "dask") or node.module.startswith("zarr.core")
        for alias in node.names
    }


def test_all_are_written_down_and_are_in_one_place() -> None:
    package = ROOM.parent
    public = {"xarray.backends:BackendEntrypoint"}
    of_zarr = {place for place in PRIVATE if place.startswith("zarr.")}
    for path in package.rglob("*.py"):
        allowed = public | (set(PRIVATE) - of_zarr) if path.parent == ROOM else public
        if path == package / "ome_zarr" / "cloud.py":
            allowed = of_zarr
        assert imported(path) <= allowed, path

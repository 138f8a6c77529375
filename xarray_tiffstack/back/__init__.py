"""The way back, from a store to TIFFs: the files that it was made of, bit by bit, or new ones.

What a conversion keeps of the files (`keeping`, `records`), how files are made of that and of the
pixels (`rebuild`), written (`writing`), and proven (`proof`); and new files (`export`, `naming`).
"""

from xarray_tiffstack.back.export import Exported
from xarray_tiffstack.back.writing import Restored, restore

__all__ = ["Exported", "Restored", "restore"]

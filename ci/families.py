"""Print how many made-up families of names are read rightly: ci/families.py [count] [seed]."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from made_names import figures

if __name__ == "__main__":
    count, seed = (*map(int, sys.argv[1:]), *(1000, 0)[len(sys.argv) - 1 :])
    counts, told = figures(count, seed)
    print("\n".join(told))
    for outcome, number in counts.items():
        print(f"{outcome:16} {number:5}  {number / count:.1%}")

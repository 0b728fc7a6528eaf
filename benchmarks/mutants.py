"""Every mutant of tests/unit/mutants.py: killed by the comparison with the guide, or not.

    .venv/bin/python benchmarks/mutants.py

Exits with 1 if a mutant survives that is not in tests/unit/data/survivors.yaml, or one is killed that is listed there.
The unit tests try some of each kind; this takes about two minutes on one processor.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.unit.guide_plan import RELEASES
from tests.unit.mutants import complaint, listed, mutants


def main() -> int:
    """Try all of them; print a row for each kind, then the deviations from the list."""
    begun = time.monotonic()
    reasons = listed()
    killed: Counter[str] = Counter()
    alive: Counter[str] = Counter()
    wrong: list[str] = []
    for release in RELEASES:
        for mutant in mutants(release):
            found = complaint(mutant)
            (killed if found else alive)[mutant.kind] += 1
            if bool(found) == any(fnmatchcase(str(mutant), name) for name in reasons):
                wrong.append(f"{mutant}: {found or 'survives'}")
    for kind in dict.fromkeys([*killed, *alive]):
        print(f"{kind:28}{killed[kind]:>6} killed{alive[kind]:>6} survive")
    dead, left = sum(killed.values()), sum(alive.values())
    print(f"{dead + left} mutants, {dead} killed, {left} survive; {time.monotonic() - begun:.0f} s")
    print("\n".join(wrong) if wrong else "each survivor is listed with its reason")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

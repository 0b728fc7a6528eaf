"""Each deliberately wrong step fails the comparison with the guide, or is listed with the reason."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase

import pytest

from .guide_plan import RELEASES
from .mutants import CHANGES, OF_A_KIND, Mutant, chosen, complaint, listed, mutants

CHOSEN = [mutant for release in RELEASES for mutant in chosen(release)]
LISTED = listed()


@pytest.mark.parametrize("mutant", CHOSEN, ids=str)
def test_wrong_step_is_detected(mutant: Mutant) -> None:
    """Either killed or listed as a survivor."""
    found = complaint(mutant)
    reasons = [why for name, why in LISTED.items() if fnmatchcase(str(mutant), name)]
    if found and reasons:
        pytest.fail(f"{mutant}: take it out of survivors.yaml, it is killed: {found}", pytrace=False)
    if not found and not reasons:
        pytest.fail(f"{mutant}: nothing is said of it; strengthen the comparison, or list it with why", pytrace=False)


def test_every_kind_and_step_has_mutants() -> None:
    """Each kind has mutants for each release, and so does each step."""
    for release in RELEASES:
        every = list(mutants(release))
        kinds = Counter(each.kind for each in every)
        assert [kind for kind in CHANGES if not kinds[kind]] == []
        assert len({str(each) for each in every}) == len(every), "two of one name"
        tried = Counter(each.kind for each in CHOSEN if each.release == release)
        assert {kind: min(OF_A_KIND, count) for kind, count in kinds.items() if tried[kind] < min(2, count)} == {}
    assert len(CHOSEN) >= 60


def test_each_reason_matches_a_mutant() -> None:
    """An unused reason would hide the next mutant of that name."""
    names = [str(each) for release in RELEASES for each in mutants(release)]
    assert [name for name in LISTED if not any(fnmatchcase(each, name) for each in names)] == []

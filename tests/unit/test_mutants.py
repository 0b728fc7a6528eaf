"""Steps that are wrong on purpose fail the comparison with the guide, each of them, or are listed with the reason."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase

import pytest

from .guide_plan import RELEASES
from .mutants import CHANGES, OF_A_KIND, Mutant, chosen, complaint, listed, mutants

CHOSEN = [mutant for release in RELEASES for mutant in chosen(release)]
LISTED = listed()


@pytest.mark.parametrize("mutant", CHOSEN, ids=str)
def test_wrong_step_is_seen(mutant: Mutant) -> None:
    """Killed, or listed as a survivor, and not both."""
    found = complaint(mutant)
    reasons = [why for name, why in LISTED.items() if fnmatchcase(str(mutant), name)]
    if found and reasons:
        pytest.fail(f"{mutant}: take it out of survivors.yaml, it is killed: {found}", pytrace=False)
    if not found and not reasons:
        pytest.fail(f"{mutant}: nothing is said of it; strengthen the comparison, or list it with why", pytrace=False)


def test_enough_of_each_kind() -> None:
    """Each kind has mutants with each release, and each step has some."""
    for release in RELEASES:
        every = list(mutants(release))
        kinds = Counter(each.kind for each in every)
        assert [kind for kind in CHANGES if not kinds[kind]] == []
        assert len({str(each) for each in every}) == len(every), "two of one name"
        tried = Counter(each.kind for each in CHOSEN if each.release == release)
        assert {kind: min(OF_A_KIND, count) for kind, count in kinds.items() if tried[kind] < min(2, count)} == {}
    assert len(CHOSEN) >= 60


def test_each_reason_is_about_a_mutant() -> None:
    """A reason for nothing would hide the next mutant of that name."""
    names = [str(each) for release in RELEASES for each in mutants(release)]
    assert [name for name in LISTED if not any(fnmatchcase(each, name) for each in names)] == []

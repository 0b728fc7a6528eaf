"""The zone of servers with volumes: one whose compute nodes can all attach them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.fixtures.volumes import zone_with_volumes


def compute(volumes: bool, zone: str | None = None) -> Any:
    return SimpleNamespace(volumes=volumes, availability_zone=zone)


@pytest.mark.parametrize(
    ("nodes", "zone"),
    [
        pytest.param([compute(True), compute(True, "a")], None, id="anywhere"),
        pytest.param([compute(False), compute(True, "b"), compute(True, "a")], "a", id="one of some"),
        pytest.param([compute(False, "a"), compute(True, "a"), compute(True, "b")], "b", id="not in a mixed one"),
    ],
)
def test_zone_of_servers_with_volumes(nodes: list[Any], zone: str | None) -> None:
    assert zone_with_volumes(nodes) == zone


def test_no_zone_for_servers_with_volumes() -> None:
    with pytest.raises(pytest.fail.Exception, match="--volume-zone"):
        zone_with_volumes([compute(False), compute(True)])
    with pytest.raises(pytest.skip.Exception, match="volumes: false"):
        zone_with_volumes([compute(False)])

"""Services that report to an API: problems are reported in one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.fixtures.services import all_work

WANTED = {"nova-scheduler": (), "nova-compute": ("compute01", "compute02")}


def service(binary: str, host: str, status: str = "enabled", state: str = "up") -> Any:
    return SimpleNamespace(binary=binary, host=host, status=status, state=state)


SOUND = [
    service("nova-scheduler", "controller"),
    service("nova-compute", "compute01"),
    service("nova-compute", "compute02.example.org"),
]


def check(*services: Any, ours: bool = True) -> None:
    all_work("nova", lambda: services, WANTED, ours=ours, seconds=0.01)


def test_working_services_pass() -> None:
    check(*SOUND)


@pytest.mark.parametrize(
    ("services", "text"),
    [
        ([*SOUND[:2], service("nova-compute", "compute02", state="down")], "down: nova-compute on compute02"),
        (SOUND[1:], "nova-scheduler: expected on a node, found on none"),
        (SOUND[:2], "nova-compute: expected on compute01, compute02, found on compute01"),
    ],
)
def test_first_line_names_the_problem(services: list[Any], text: str) -> None:
    with pytest.raises(AssertionError, match="every service of nova is up") as raised:
        check(*services)
    assert text in str(raised.value).splitlines()[0]


def test_disabled_service_is_skipped_on_a_foreign_cloud() -> None:
    off = [*SOUND, service("nova-compute", "compute03", status="disabled", state="down")]
    with pytest.raises(AssertionError, match="services of nova are disabled: nova-compute on compute03"):
        check(*off)
    check(*off, ours=False)

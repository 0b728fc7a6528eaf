"""A service that starts slowly is waited for while it works; one that hangs or crashes is not."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stackspec.node_agent import shell, waits

HZ = os.sysconf("SC_CLK_TCK")
UNIT = ("cinder-api",)


def process(proc: Path, pid: int, unit: str, seconds: float, start: int = 7) -> None:
    """A process in /proc that has used CPU time."""
    folder = proc / str(pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup").write_text(f"0::/system.slice/{unit}.service\n")
    fields = ["S", *["0"] * 10, str(int(seconds * HZ)), "0", "0", "0", *["0"] * 4, str(start)]
    (folder / "stat").write_text(f"{pid} (a) name) {' '.join(fields)}\n")


def test_cpu_time_is_that_of_the_processes_of_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "PROC", str(tmp_path))
    process(tmp_path, 11, "cinder-api", 2.5)
    process(tmp_path, 12, "cinder-api", 1.0)
    process(tmp_path, 13, "other-cinder-api", 9.0)
    (tmp_path / "self").mkdir()
    (tmp_path / "14").mkdir()
    assert waits.cpu_time(UNIT) == {("11", "7"): 2.5, ("12", "7"): 1.0}
    assert waits.cpu_time(()) == {}


def answering_after(calls: int) -> Callable[[str], object]:
    """A server that answers the `calls`-th request."""
    count = itertools.count(1)
    return lambda url: 200 if next(count) >= calls else "ConnectionRefusedError"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes only while somebody sleeps."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_start_takes_as_long_as_the_service_works_on_it(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "cpu_time", lambda units: {("11", "7"): 0.1 * clock[0]})
    monkeypatch.setattr(waits, "get", answering_after(1500))
    waits.await_http("http://controller:8776/", [200], 120.0, UNIT)
    assert clock[0] == pytest.approx(1000.0 + 1499 * 0.2)


@pytest.mark.parametrize(
    ("used", "waited"),
    [
        pytest.param(lambda now: {("11", "7"): 3.0}, 120, id="hangs"),
        pytest.param(lambda now: {("11", "7"): 0.01 * now}, 120, id="only idles"),
        pytest.param(lambda now: {(str(int(now) // 10), "7"): now}, 120, id="crashes over and over"),
        pytest.param(lambda now: {}, 120, id="does not run"),
        pytest.param(lambda now: {("11", "7"): now}, 960, id="never comes to an end"),
    ],
)
def test_service_that_does_not_get_there_is_given_up(
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
    used: Callable[[float], dict[tuple[str, str], float]],
    waited: int,
) -> None:
    monkeypatch.setattr(waits, "cpu_time", lambda units: used(clock[0]))
    monkeypatch.setattr(waits, "get", lambda url: "TimeoutError: timed out")
    monkeypatch.setattr(shell, "journal", lambda units, lines=25: "")
    with pytest.raises(shell.Failed, match=rf"answers 'TimeoutError: timed out' after {waited} s"):
        waits.await_http("http://controller:8776/", [200], 120.0, UNIT)

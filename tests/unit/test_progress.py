"""Engine events on the terminal: readable, despite output capture, from any thread, without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

CONFTEST = """
import threading
import pytest
from stackspec.plugin.progress import Progress
from stackspec.secrets import redact

redact.add("c0ffee-is-secret")

@pytest.fixture(scope="session")
def show(request):
    def show(*events):
        thread = threading.Thread(target=lambda: [request.config.progress(event) for event in events])
        thread.start()
        thread.join()
    return show

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.progress = Progress(config)
"""

STEP = {"event": "step", "step": "keystone", "node": "controller", "state": "done", "seconds": 9.8, "changes": [{}] * 7}
PACKAGES = {"event": "packages", "node": "compute01", "count": 312, "state": "running"}


@pytest.fixture
def show(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.LineMatcher]:
    """Run a test that emits events, and return the output."""
    # Other plugins are not needed, and take time to import.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def show(*events: dict[str, Any], words: tuple[str, ...] = ()) -> pytest.LineMatcher:
        pytester.makeconftest(CONFTEST)
        middle = f"    show(*{list(events)!r})\n    assert capfd.readouterr() == ('', '')"
        pytester.makepyfile(f"def test_a(): pass\ndef test_b(show, capfd):\n{middle}")
        result = pytester.runpytest_subprocess(*words)
        assert result.ret == 0
        return result.stdout

    return show


@pytest.mark.parametrize("words", [(), ("--capture=sys",), ("-v",)])
def test_each_event_is_on_its_own_line(show: Callable[..., pytest.LineMatcher], words: tuple[str, ...]) -> None:
    out = show(STEP, {**PACKAGES, "state": "done", "seconds": 88.04}, words=words)
    out.re_match_lines(
        [
            r"^\[ +\d+\.\ds\] controller  keystone      done     7 changes    9\.8 s$",
            r"^\[ +\d+\.\ds\] compute01   packages      done     312 packages 88\.0 s$",
        ]
    )


def test_failure_is_shown_with_its_whole_error(show: Callable[..., pytest.LineMatcher]) -> None:
    error = "restart nova-compute\nexit status: 1\nuses c0ffee-is-secret"
    failed = {**STEP, "state": "failed", "error": error, "failed_at": "service nova-compute"}
    for words in ((), ("-q",)):
        lines = show(failed, words=words).lines
        start = next(number for number, line in enumerate(lines) if "failed" in line)
        assert lines[start + 1 : start + 5] == [
            "    at: service nova-compute",
            "    restart nova-compute",
            "    exit status: 1",
            "    uses ******",
        ]


def test_apt_output_is_throttled(show: Callable[..., pytest.LineMatcher]) -> None:
    says = [{"event": "says", "node": "compute01", "text": f"Unpacking {number}"} for number in range(50)]
    text = str(show(*says))
    assert text.count("Unpacking") == 1
    assert "Unpacking" not in str(show(PACKAGES, *says))


def test_last_line(show: Callable[..., pytest.LineMatcher]) -> None:
    show({"event": "deployed", "changes": 0, "states": ["done", "done"]}).fnmatch_lines(["0 changes"])
    show({"event": "deployed", "changes": 212, "states": ["done"]}).re_match_lines(
        [r"^deployed: 212 changes in \d+\.\d s$"]
    )
    bad = show({"event": "deployed", "changes": 0, "states": ["failed", "blocked", "blocked"]})
    bad.re_match_lines([r"^deployed: no change in \d+\.\d s, 1 failed, 2 blocked$"])
    assert "0 changes" not in str(bad)


def test_steps_without_changes_differ_from_the_last_line(show: Callable[..., pytest.LineMatcher]) -> None:
    text = str(show({**STEP, "changes": []}, words=("-v",)))
    assert "no change" in text
    assert "0 changes" not in text


def test_quiet(show: Callable[..., pytest.LineMatcher]) -> None:
    quiet = show(STEP, PACKAGES, {"event": "deployed", "changes": 3, "states": []}, words=("-q",))
    assert "keystone" not in str(quiet)
    assert "packages" not in str(quiet)
    quiet.fnmatch_lines(["deployed: 3 changes in *"])
    assert "deployed" not in str(show({"event": "deployed", "changes": 3, "states": []}, words=("-qq",)))


def test_colours_only_on_request(show: Callable[..., pytest.LineMatcher]) -> None:
    assert "\x1b[32m" in str(show(STEP, words=("--color=yes",)))
    assert not re.search("\x1b", str(show(STEP)))

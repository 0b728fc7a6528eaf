"""How tests that cannot run are reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackspec.engine import STOPPED
from stackspec.plugin.admission import Admission
from stackspec.plugin.deployment import FailedStep
from stackspec.plugin.lanes import Claims

FAIL, SKIP = pytest.fail.Exception, pytest.skip.Exception
CAUSE = FailedStep("nova on controller", "no room", "step nova on controller failed\nno room")


def outcome(look: Callable[..., None], *given: Any) -> tuple[str, str]:
    """The outcome of a test that is checked like this."""
    try:
        look(*given)
    except (FAIL, SKIP) as error:
        return ("failed" if isinstance(error, FAIL) else "skipped"), str(error)
    return "runs", ""


def test_unblocked_test_runs() -> None:
    here = Admission(Claims())
    assert outcome(here.by_run) == outcome(here.by_step, None) == outcome(here.by_login, "") == ("runs", "")


def test_first_test_shows_the_whole_error_and_others_its_first_line() -> None:
    here = Admission(Claims())
    assert outcome(here.by_step, CAUSE) == ("failed", CAUSE.text)
    assert outcome(here.by_step, CAUSE) == ("skipped", "blocked by nova on controller: no room")
    assert outcome(here.by_step, FailedStep("swift on compute01", "no disk", "all of it")) == ("failed", "all of it")


def test_step_that_was_never_started_is_not_a_failure() -> None:
    stopped = FailedStep("nova on controller", STOPPED, "text")
    message = f"blocked by nova on controller: {STOPPED}"
    assert outcome(Admission(Claims()).by_step, stopped) == ("skipped", message)


def test_one_process_reports_the_error(tmp_path: Path) -> None:
    lanes = [Admission(Claims(tmp_path / "claims")) for _ in range(2)]
    assert [outcome(lane.by_step, CAUSE)[0] for lane in lanes] == ["failed", "skipped"]
    assert [outcome(lane.by_login, "no user admin")[0] for lane in lanes] == ["failed", "skipped"]


def test_stopped_run_is_reported_once() -> None:
    here = Admission(Claims())
    here.refuse("cannot write /x: no space\nfree some")
    assert outcome(here.by_run) == ("failed", "cannot write /x: no space\nfree some")
    assert outcome(here.by_run) == ("skipped", "cannot write /x: no space")

"""Hooks of the pytest plugin for workers of xdist: how many there are, and which tests each of them takes."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from .lanes import next_lane
from .session import RUN, Run


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Use lanes as configured in the ini file; -n (even -n0) and options that need a single process override it."""
    option, lanes = config.option, int(config.getini("lanes") or 0)
    alone = (
        hasattr(config, "workerinput")
        or option.collectonly
        or option.setupplan
        or option.usepdb
        or option.capture == "no"
    )
    if option.deploy and lanes > 1 and not alone and getattr(option, "numprocesses", 0) is None:
        option.numprocesses = lanes
    if getattr(option, "numprocesses", None) and option.dist == "no":
        # Tests of a file share expensive fixtures; files are in the order of the steps, not of their size.
        option.dist, option.loadscopereorder = "loadfile", not option.deploy
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """With workers, the controlling process also collects: it assigns lanes, and deploys what the selection needs."""
    if getattr(session.config.option, "numprocesses", None):
        session.perform_collect()
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            # As pytest does without workers. They would run the other files, without knowing what their tests need.
            raise session.Interrupted(f"{session.testsfailed} errors during collection")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Lanes: in step order for a deployment, the longest first for a check; otherwise as given by --dist."""
    if config.option.dist != "loadfile":
        return None
    # Imported here: only this needs xdist's schedulers, and pytest calls it only if xdist is loaded.
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    run = config.stash[RUN]

    class LaneScheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return run.lane_of[nodeid]

        def _assign_work_unit(self, node: Any) -> None:
            left, turns = [], run.record.status.running()
            for other, units in self.assigned_work.items():
                tests = {test: ended for unit in units.values() for test, ended in unit.items()}
                ended = [test for test in tests if tests[test]]
                coming = [test for test in tests if not tests[test]]
                if other is not node and coming:
                    left.append(coming)
                    # Between two tests with the same needs a worker keeps its turn.
                    if ended and run.needs[ended[-1]] == run.needs[coming[0]]:
                        turns.add(coming[0])
            lane = next_lane(self.workqueue, left, run.needs, run.deployment.done, turns.__contains__)
            self.workqueue.move_to_end(lane, last=False)
            super()._assign_work_unit(node)

    return LaneScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the run id, which marks objects of the run, and the secrets to the workers of xdist."""
    node.workerinput |= node.config.stash[RUN].for_workers()


class HaltAtLastFailure:
    """With workers: ends the deployment when no more tests follow (-x, --maxfail), since some wait for its steps."""

    def __init__(self, run: Run, failures: int) -> None:
        self._run, self._left = run, failures

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._left -= report.failed
        if self._left <= 0:
            self._run.halt()

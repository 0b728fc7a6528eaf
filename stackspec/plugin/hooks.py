"""The hooks of the pytest plugin: options, the order of tests, and what a test waits for. `session` does the work."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from .. import suite
from ..cloud_options import OPTIONS
from ..errors import InputError, StackspecError
from ..masking import mask
from ..step import STEPS, closure, load_steps
from . import workers
from .lanes import lane_of, late, needs_of
from .selection import direct_steps, fixtures_of_steps, needs_all, required_steps
from .session import RUN, Run

BLOCKED: pytest.StashKey[list[str]] = pytest.StashKey()
"""Node ids of tests that were skipped because of a failed step."""

LOGIN = "user_cloud"
"""The fixture with which tests log in to the cloud."""

SELECTED: pytest.StashKey[bool] = pytest.StashKey()
"""True once collection has finished: the selection is what the user requested."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.register(workers, "stackspec-workers")
    group = parser.getgroup("stackspec", "install OpenStack and prove that it works")
    group.addoption("--deploy", action="store_true", help="install what the selected tests need, then run them")
    group.addoption("--plan", action="store_true", help="print what --deploy would change, and touch nothing")
    group.addoption("--inventory", metavar="PATH", help="the site (default: the embedded lab)")
    group.addoption(
        "--bundle",
        metavar="DIRECTORY",
        help="use only the files of this bundle; download nothing (see: stackspec bundle)",
    )
    group.addoption(
        "--os-cloud", metavar="NAME", help="validate an existing cloud: an entry of clouds.yaml (default: $OS_CLOUD)"
    )
    group.addoption("--keep", action="store_true", help="keep the objects that tests create, for inspection")
    for each in OPTIONS:
        group.addoption(f"--{each.name}", metavar=each.metavar, default=each.default, help=each.help)
    group.addoption(
        "--keep-runs",
        type=float,
        default=30,
        metavar="DAYS",
        help="remove records and reports of runs that are older (default: 30; 0 keeps all)",
    )
    parser.addini(
        "lanes", "workers that test during a deployment, as with -n (default: 3; 0: one process does all)", default="3"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "steps(*names): steps that a test needs in addition to those in its arguments")
    config.addinivalue_line(
        "markers",
        "disturbs(*names): steps whose services the test's file stops or breaks; no other test uses them meanwhile",
    )
    config.addinivalue_line("markers", "lane(name): tests of one name run in one worker, where they share guests")
    config.addinivalue_line("markers", "smoke: the one test per service for a first check of a cloud")
    load_steps()
    config.pluginmanager.register(fixtures_of_steps(), "stackspec.steps")
    for name in _fixture_modules():
        config.pluginmanager.register(importlib.import_module(name), name)
    if config.option.deploy and config.option.plan:
        raise pytest.UsageError("--deploy and --plan cannot be combined: --plan changes nothing")
    if config.option.deploy or config.option.plan:
        _refuse_with_deploy(config)
    with _usage_errors():
        run = Run(config)
    config.stash[RUN] = run
    config.pluginmanager.register(run.report, "stackspec-report")
    config.stash[BLOCKED] = []
    if run.lanes and config.getoption("maxfail"):
        config.pluginmanager.register(workers.HaltAtLastFailure(run, config.getoption("maxfail")), "stackspec-halt")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folders of tests that run only when the command line names them."""
    left_out = suite.runs_only_when_named(collection_path, config.args, config.invocation_params.dir)
    return True if left_out else None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[RUN].record.start()
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_EndUnrecorded(session), "stackspec-end")


def _fixture_modules() -> list[str]:
    package = importlib.import_module("stackspec.fixtures")
    return [f"stackspec.fixtures.{module.name}" for module in pkgutil.iter_modules(package.__path__)]


def _refuse_with_deploy(config: pytest.Config) -> None:
    """Options that would run the engine twice or stop it in the middle."""
    if config.option.plan and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("-n cannot be combined with --plan, which runs no tests")
    if _reruns(config):
        raise pytest.UsageError(
            "--reruns with --deploy: a failed step is tried again by the next --deploy, not by a rerun"
        )


def _reruns(config: pytest.Config) -> bool:
    """Whether pytest-rerunfailures reruns failed tests, by an option or by the ini file."""
    if getattr(config.option, "reruns", None) or getattr(config.option, "force_reruns", None):
        return True
    try:
        return int(config.getini("reruns")) > 0
    except (TypeError, ValueError):  # not set, or the plugin is not installed
        return False


class _EndUnrecorded:
    """Ends a run cleanly if it cannot be recorded or shown any more: objects of tests are removed."""

    def __init__(self, session: pytest.Session) -> None:
        self._session, self._run = session, session.config.stash[RUN]

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self) -> None:
        workers: Any = self._session.config.pluginmanager.getplugin("dsession")
        if self._run.unrecorded and workers is not None:
            workers.shouldstop = self._run.unrecorded
        elif self._run.unrecorded:
            self._session.shouldfail = self._run.unrecorded

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Errors while writing the last files, such as JUnit's, are reported like all others."""
        try:
            return (yield)
        except OSError as error:
            self._run.record.lost(error)
            return None

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Fail, and say why even if the terminal is closed and its errors go elsewhere."""
        if self._run.unrecorded:
            if self._session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                self._session.exitstatus = pytest.ExitCode.TESTS_FAILED
            if self._session.exitstatus == pytest.ExitCode.USAGE_ERROR:
                return  # pytest reports it there
            with contextlib.suppress(OSError):
                os.write(2, f"stackspec: {mask(self._run.unrecorded)}\n".encode())


class _usage_errors:
    """Turn input errors into pytest's usage error, which ends the run with status 4."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "declared" in metafunc.fixturenames:
        declared = metafunc.config.stash[RUN].declared()
        metafunc.parametrize("declared", declared, ids=[each.id for each in declared])


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Node ids of the suite's tests are the same in a clone and in an installed package."""
    name = suite.name_of(module_path, parent.config.rootpath)
    return pytest.Module.from_parent(parent, path=module_path, nodeid=name) if name else None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Tests run as soon as their steps are done: those of early steps first. Stable, so files stay together."""
    yield
    config.stash[SELECTED] = True
    if config.option.deploy:
        order = closure(STEPS)
        ranks = {name: max((order.index(each) for each in closure([name])), default=0) for name in order}
        lanes = hasattr(config, "workerinput") or getattr(config.option, "numprocesses", None)
        last = late(items) if lanes else set()
        items.sort(
            key=lambda item: (
                len(order)
                if item.nodeid in last or (lanes and needs_all(item))
                else max((ranks[name] for name in required_steps(item)), default=-1)
            )
        )


def pytest_collection_finish(session: pytest.Session) -> None:
    """The selection is final here, after -k, -m and --deselect: plan what it needs, and start."""
    config = session.config
    if config.option.collectonly or getattr(config.option, "setupplan", False):
        return
    # pytest also calls this hook if -k is invalid or a file cannot be collected, and then ends the run.
    if not config.stash.get(SELECTED, False):
        return
    if session.testsfailed and not config.option.continue_on_collection_errors:
        return
    names = list(dict.fromkeys(name for item in session.items for name in required_steps(item)))
    # A test that looks at all that is deployed would take for a fault what another one disturbs.
    config.stash[RUN].needs = needs_of(session.items, lambda item: names if needs_all(item) else required_steps(item))
    config.stash[RUN].lane_of = {item.nodeid: lane_of(item) for item in session.items}
    for nodeid, needs in config.stash[RUN].needs.items():
        if unknown := sorted(needs.disturbs - set(STEPS)):
            raise pytest.UsageError(f"{nodeid}: mark disturbs: no step {', '.join(unknown)}")
    if config.stash[RUN].lanes and not config.option.deploy:
        return  # the workers check the site themselves
    try:
        config.stash[RUN].begin(names, session.items)
    except StackspecError as error:
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(str(error)) from None
        # xdist would treat a worker that ends as crashed, and restart it.
        config.stash[RUN].admission.refuse(str(error))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    return True if session.config.option.plan else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Wait for the test's steps before any timer starts, so that no test is charged for a deployment."""
    item.config.stash[RUN].take_turn(item)
    item.config.stash[RUN].wait(required_steps(item))
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail the first test that needs a failed step with its cause; skip the others as blocked by it.

    Also skip tests of services that this site or cloud does not have. Steps that only other steps need may be missing:
    a dashboard comes after all existing services.
    """
    try:
        item.config.stash[RUN].admit(required_steps(item))
        if LOGIN in getattr(item, "fixturenames", ()) and not item.config.option.setupplan:
            item.config.stash[RUN].admit_user()
    except pytest.skip.Exception:
        item.config.stash[BLOCKED].append(item.nodeid)
        raise
    if not item.config.option.setupplan:
        for name in direct_steps(item):
            item.config.stash[RUN].require(name)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if config.option.collectonly or hasattr(config, "workerinput"):
        return
    problems = config.stash[RUN].end(
        interrupted=exitstatus == pytest.ExitCode.INTERRUPTED and not config.stash[RUN].unrecorded,
        stopped=bool(session.shouldfail or session.shouldstop),
    )
    if problems and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True, specname="pytest_sessionfinish")
def pytest_keep_blocked(session: pytest.Session) -> None:
    """Make --lf run blocked tests again: pytest considers a skipped test successful."""
    config = session.config
    cache = getattr(config, "cache", None)
    blocked = config.stash[BLOCKED]
    if hasattr(config, "workeroutput"):
        config.workeroutput["stackspec_blocked"] = blocked
    elif cache is not None and blocked:
        cache.set("cache/lastfailed", {**cache.get("cache/lastfailed", {}), **dict.fromkeys(blocked, True)})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect which tests a worker has skipped because of a failed step."""
    node.config.stash[BLOCKED] += getattr(node, "workeroutput", {}).get("stackspec_blocked", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash[RUN].summary():
        terminalreporter.write_line(line)


def pytest_report_header(config: pytest.Config) -> list[str]:
    return config.stash[RUN].header()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is not None:
        run.close()

"""The pytest plugin: options, the order of tests, and what a test waits for. The work is done by stackspec.session."""

from __future__ import annotations

import importlib
import importlib.resources
import pkgutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from .errors import InputError, StackspecError
from .plugin_keys import RUN
from .session import Run
from .step import STEPS, closure, load_steps

BLOCKED: pytest.StashKey[list[str]] = pytest.StashKey()
"""Node ids of the tests that were skipped for a step that failed."""

SELECTED: pytest.StashKey[bool] = pytest.StashKey()
"""True when collection came to its end: what is selected is what the user asked for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("stackspec", "install OpenStack and prove that it works")
    group.addoption("--deploy", action="store_true", help="install what the selected tests need, then run them")
    group.addoption("--plan", action="store_true", help="print what --deploy would change, and touch nothing")
    group.addoption("--inventory", metavar="PATH", help="the site (default: the embedded lab)")
    group.addoption("--keep", action="store_true", help="keep what tests made in the cloud, for a look at it")
    group.addoption("--guest-image", metavar="NAME", help="image of test servers (default: cirros)")
    group.addoption("--guest-user", metavar="NAME", default="cirros", help="user to log in to test servers")
    group.addoption(
        "--external-network", metavar="NAME", help="network of floating addresses (default: provider, else the first)"
    )
    group.addoption(
        "--volume-zone",
        metavar="NAME",
        help="availability zone of servers with volumes (default: the site's, else any)",
    )
    for name in ("horizon", "skyline"):
        group.addoption(f"--{name}-url", metavar="URL", help=f"address of {name.capitalize()} (default: the site's)")
    group.addoption("--flavor", metavar="NAME", help="flavor of test servers (default: the smallest that fits)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "steps(*names): steps that a test needs beside those in its arguments")
    config.addinivalue_line("markers", "smoke: the one proof of its service that a first look at a cloud needs")
    for name in [*load_steps(), *_fixture_modules()]:
        config.pluginmanager.register(importlib.import_module(name), name)
    if config.option.deploy and config.option.plan:
        raise pytest.UsageError("--deploy and --plan exclude each other: --plan touches nothing")
    if config.option.deploy or config.option.plan:
        _refuse_with_deploy(config)
    with _usage_errors():
        run = Run(config)
    config.stash[RUN] = run
    config.pluginmanager.register(run.report, "stackspec-report")
    config.stash[BLOCKED] = []
    run.publish(config)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[RUN].start()


def _fixture_modules() -> list[str]:
    package = importlib.import_module("stackspec.fixtures")
    return [f"stackspec.fixtures.{module.name}" for module in pkgutil.iter_modules(package.__path__)]


def _refuse_with_deploy(config: pytest.Config) -> None:
    """Options that would run the engine twice or lose it half way."""
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError(
            "-n with --deploy or --plan: one process deploys; run --deploy first, then validate with -n"
        )
    if _reruns(config):
        raise pytest.UsageError(
            "--reruns with --deploy: a failed step is tried again by the next --deploy, not by a rerun"
        )


def _reruns(config: pytest.Config) -> bool:
    """Whether pytest-rerunfailures is to run failed tests again, by an option or by the ini file."""
    if getattr(config.option, "reruns", None) or getattr(config.option, "force_reruns", None):
        return True
    try:
        return int(config.getini("reruns")) > 0
    except (TypeError, ValueError):  # not set, or no such plugin
        return False


class _usage_errors:
    """Turn errors of the user's input into pytest's usage error, which ends the run with status 4."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            raise pytest.UsageError(str(error)) from None


def asked(item: pytest.Item) -> list[str]:
    """The steps that a test asks for itself, or its fixtures: not those that only other steps need."""
    info: Any = getattr(item, "_fixtureinfo", None)
    todo, seen = list(info.initialnames) if info is not None else [], set[str]()
    while todo:
        name = todo.pop()
        if name not in seen and name not in STEPS:
            todo += [each for fixture in info.name2fixturedefs.get(name, ()) for each in fixture.argnames]
        seen.add(name)
    return [name for name in wanted(item) if name in seen or name not in item.fixturenames]  # type: ignore[attr-defined]


def wanted(item: pytest.Item) -> list[str]:
    """The steps that a test needs: its arguments, its parameter, its marks, and what these need."""
    names = [name for name in getattr(item, "fixturenames", ()) if name in STEPS]
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "declared" in callspec.params:
        names.append(callspec.params["declared"].task.step.name)
    for mark in item.iter_markers("steps"):
        names += mark.args
    return list(dict.fromkeys(names))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "declared" in metafunc.fixturenames:
        declared = metafunc.config.stash[RUN].declared()
        metafunc.parametrize("declared", declared, ids=[each.id for each in declared])


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Tests run as soon as their steps are there: those of early steps come first. Stable, so files stay together."""
    yield
    config.stash[SELECTED] = True
    if config.option.deploy:
        order = closure(STEPS)
        ranks = {name: max((order.index(each) for each in closure([name])), default=0) for name in order}
        items.sort(key=lambda item: max((ranks[name] for name in wanted(item)), default=-1))


def pytest_collection_finish(session: pytest.Session) -> None:
    """The selection is final here, after -k, -m and --deselect: what it needs is planned, and the work begins."""
    config = session.config
    if config.option.collectonly or getattr(config.option, "setupplan", False):
        return
    # pytest calls this hook also when -k cannot be read or a file cannot be collected, and then ends the run.
    if not config.stash.get(SELECTED, False):
        return
    if session.testsfailed and not config.option.continue_on_collection_errors:
        return
    names = list(dict.fromkeys(name for item in session.items for name in wanted(item)))
    try:
        config.stash[RUN].begin(names, session.items)
    except StackspecError as error:
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(str(error)) from None
        # xdist takes a worker that ends for a crash, and starts it again.
        config.stash[RUN].refuse(str(error))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Workers of xdist share the run's id, by which objects are found and removed."""
    node.workerinput["stackspec_run"] = node.config.stash[RUN].id


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    return True if session.config.option.plan else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Wait for the test's steps before any timer starts, so that no test is billed for a deployment."""
    item.config.stash[RUN].wait(wanted(item))
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The first test that needs a failed step fails with its cause; the others are skipped as blocked by it.

    So are tests of what is no part of the site or the cloud. What a step needs beside may be: a dashboard comes after
    every service that there is.
    """
    try:
        item.config.stash[RUN].admit(wanted(item))
    except pytest.skip.Exception:
        item.config.stash[BLOCKED].append(item.nodeid)
        raise
    if not item.config.option.setupplan:
        for name in asked(item):
            item.config.stash[RUN].require(name)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    config = session.config
    if config.option.collectonly or hasattr(config, "workerinput"):
        return
    problems = config.stash[RUN].end(
        interrupted=exitstatus == pytest.ExitCode.INTERRUPTED, stopped=bool(session.shouldfail or session.shouldstop)
    )
    if problems and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True, specname="pytest_sessionfinish")
def pytest_keep_blocked(session: pytest.Session) -> None:
    """Let --lf run blocked tests again, too: pytest takes a skipped test for one that is well."""
    config = session.config
    cache = getattr(config, "cache", None)
    blocked = config.stash[BLOCKED]
    if cache is not None and blocked and not hasattr(config, "workerinput"):
        cache.set("cache/lastfailed", {**cache.get("cache/lastfailed", {}), **dict.fromkeys(blocked, True)})


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


def default_inventory() -> Path:
    """The lab's inventory, which comes with stackspec."""
    return Path(str(importlib.resources.files("stackspec.inventories"))) / "lab"

"""A run: its site and mode, the engine that works in parallel with the tests, and the final summary."""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest

from ..engine import Engine
from ..errors import InputError, StackspecError
from ..lock import Lock, who
from ..openstack.catalog import Catalog
from ..ports import Cloud, Platform
from ..reach import bring_up, reach
from ..release_check import check_release
from ..resources.base import Change
from ..secrets import redact
from ..site import Site, check_config, default_inventory, state_directory
from ..step import STEPS
from ..store import Bundle
from ..task import Finding, Task, plan_of
from ..which_cloud import which_cloud
from . import evidence, plan_output
from .admission import Admission
from .deployment import Deployment, Followed, NoDeployment, OwnDeployment
from .drift import declared, remaining_changes
from .keys import CONNECTION
from .lanes import Claims, Needs, Turns, lane_of
from .outcome import leftovers, summary, untold_failures
from .record import RunRecord
from .report import ReportPlugin

RUN: pytest.StashKey[Run] = pytest.StashKey()
"""The run, in the stash."""


class Run:
    """One run of pytest.

    :param config: pytest's configuration
    :raises InputError: the inventory or an option is invalid
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.id = f"ss-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{random.token_hex(2)}"
        workerinput = getattr(config, "workerinput", None)
        if workerinput:
            self.id = workerinput.get("stackspec_run", self.id)
        self._worker = bool(workerinput)
        self.lanes = bool(getattr(config.option, "numprocesses", None))
        self.deploying: bool = config.option.deploy
        self.planning: bool = config.option.plan
        self.site, self.cloud = self._find_cloud()
        if workerinput and self.site is not None:
            self.site.secrets.learn(workerinput.get("stackspec_secrets", {}))
        self.engine: Engine | None = None
        self.catalog: Cloud = Catalog(self.site, self.cloud)
        self.lab: Platform | None = None
        self.deployment: Deployment = NoDeployment()
        self._began = False
        self._joined = False
        self._logs = evidence.Logs()
        self._problems: list[str] = []
        self.record = RunRecord(config, self.folder, self.id, self._halt)
        self.admission = Admission(Claims(self.folder / "told" if self.lanes or self._worker else None))
        self._turns = Turns(self.folder / "turns")
        self._lock: Lock | None = None
        self._lane: str | None = None
        self.needs: dict[str, Needs] = {}
        self.lane_of: dict[str, str] = {}
        self.report = ReportPlugin(config, self.record.log, self._about(), self._gather, self.record.lost)

    def _about(self) -> dict[str, Any]:
        """The description of the run for the report."""
        about: dict[str, Any] = {"run": self.id, "mode": self.mode, "site": self.cloud}
        if self.site is not None:
            nodes = list(self.site.nodes)
            about |= {"site": self.site.name, "release": self.site.release.title, "nodes": nodes}
        return about

    def _gather(self, report: pytest.TestReport) -> list[dict[str, Any]]:
        """Logs of a test's failure, or the ids by which the operators of the cloud find them."""
        if self.engine is not None:
            return evidence.gather(self.engine.connections, report, self.engine.site)
        if self.site is None:
            return evidence.request_ids(report) if CONNECTION in self.config.stash else []
        if self.planning or not self._began or self.admission.refused:
            return []
        return self._logs.gather(report, self.site)

    def _find_cloud(self) -> tuple[Site | None, str]:
        nodes = self.deploying or self.planning
        option = self.config.option
        meant = which_cloud(option.inventory, default_inventory(), nodes=nodes, cloud=option.os_cloud)
        if meant.site is not None:
            check_release(meant.site.inventory.release, STEPS)
            check_config(meant.site, STEPS)
        return meant.site, meant.name

    @property
    def mode(self) -> str:
        """deploy, plan, check (a site) or validate (a cloud)."""
        return "deploy" if self.deploying else "plan" if self.planning else "check" if self.site else "validate"

    @property
    def folder(self) -> Path:
        """Where the run stores its events and report."""
        base = self.site.state if self.site is not None and self.site.state is not None else state_directory()
        return base / "runs" / self.id

    @property
    def unrecorded(self) -> str:
        """Why the run cannot continue: it cannot be recorded or shown; empty if it can."""
        return self.record.unrecorded or (self.engine.unrecorded if self.engine is not None else "")

    def _halt(self, why: str) -> None:
        if self.engine is not None and self.deploying:
            self.engine.halt(why)

    def header(self) -> list[str]:
        """Lines of pytest's header."""
        if self.site is None:
            return [f"stackspec: validate the cloud {self.cloud}, run {self.id}"]
        site = self.site
        return [
            f"stackspec: {self.mode} site {site.name} ({site.release.title}, {len(site.nodes)} nodes), run {self.id}"
        ]

    def for_workers(self) -> dict[str, Any]:
        """Data for workers: the run id and, so that their plan equals the deployed one, its secrets.

        They are generated while steps declare, and not stored before the deployment starts.
        """
        told: dict[str, Any] = {"stackspec_run": self.id}
        if self.deploying and self.plan and self.site is not None:
            told["stackspec_secrets"] = self.site.secrets.values()
        return told

    @cached_property
    def plan(self) -> list[Task]:
        """The steps' declarations on the site, independent of how nodes are reached and where files come from."""
        return plan_of(self.site) if self.site is not None else []

    def declared(self) -> list[Finding]:
        """What drift tests compare, one by one."""
        return declared(self.plan)

    # ---- start

    def begin(self, steps: Sequence[str], items: Sequence[pytest.Item]) -> None:
        """Start what the selection needs.

        :raises InputError: an input is invalid; nothing was changed
        """
        if not steps:
            return
        if self.unrecorded:
            raise InputError(self.unrecorded)
        self._began = True
        if not self._worker and not self.planning:
            self.record.forget_others()
        if self.site is None:
            self.catalog.check()
            return
        if self._worker and self.deploying:
            self._follow(self.site, steps)
            return
        if self.deploying:
            self._lock_site(self.site)
        self._reach_site(self.site, steps)
        if self.deploying or self.planning or any("declared" in _names(item) or _on_nodes(item) for item in items):
            self._use_nodes(self.site, steps)

    def _follow(self, site: Site, steps: Sequence[str]) -> None:
        """In a worker: follow the deployment of the controlling process."""
        self.engine = Engine(site, self.plan, steps, self.record.hear)
        nodes = {name: [node.name for node in STEPS[name].nodes(site)] for name in self.engine.steps}
        self.deployment = Followed(self.record.log.path, nodes, self.engine.settling)

    def _lock_site(self, site: Site) -> None:
        """Let no other run deploy this site meanwhile."""
        if site.state is None:
            return
        lock = Lock(site.state / "lock")
        lock.take(who(self.id), f"site {site.name}")
        self._lock = lock
        if site.secrets.is_stale():
            raise InputError(f"another deployment has written the secrets of site {site.name} meanwhile; start again")

    def _use_nodes(self, site: Site, steps: Sequence[str]) -> None:
        """Connect to the nodes and check them; then show the plan, or start the deployment."""
        engine = Engine(site, self.plan, steps, self.record.hear)
        try:
            if self.deploying:
                # First: it must find what an earlier deployment left, not what another one is about to change.
                engine.connections.open()
                engine.connections.hold(who(self.id), self.record.says)
            engine.check_nodes()
        except StackspecError:
            engine.connections.close()
            raise
        self.engine = engine
        if self.planning:
            engine.survey()
            plan_output.show(engine.tasks, self.config)
        elif self.deploying:
            self.record.status.plan(len(engine.tasks))
            self._keep(site)
            self.deployment = OwnDeployment(engine)
            engine.start()

    def _keep(self, site: Site) -> None:
        """Write the files that the deployment requires, before anything is changed.

        :raises InputError: it cannot be written
        """
        try:
            site.secrets.keep()
            self.record.deployment_begins()
        except OSError as error:
            self.record.lost(error)
        if self.unrecorded:
            raise InputError(self.unrecorded)

    @cached_property
    def _bundle(self) -> Bundle | None:
        """Computed once per process: all its files are hashed."""
        folder = self.config.option.bundle
        return Bundle(Path(folder)) if folder else None

    def _reach_site(self, site: Site, steps: Sequence[str]) -> None:
        """Set up names, images and the lab: start it for a deployment, enter it if it is running."""
        if self._bundle is not None:
            site = replace(site, store=self._bundle)
        up = partial(bring_up, site=site, steps=steps, say=partial(self.record.says, "lab"))
        site, self.lab = reach(site, up if self.deploying else None)
        self.site = site
        self.catalog = Catalog(site, self.cloud)

    # ---- tests

    def wait(self, steps: Sequence[str]) -> None:
        """Wait until the steps are done, failed or blocked."""
        try:
            if steps and isinstance(self.deployment, Followed):
                self._join_site(self.deployment)
            for name in steps:
                self.deployment.wait(name)
        except StackspecError as error:
            # In a worker: the controlling process has ended, or its site cannot be used.
            self.admission.refuse(str(error))

    def halt(self) -> None:
        """Start no more steps: no further tests need them."""
        self.deployment.halt()

    def join(self) -> None:
        """Wait for the end of the deployment."""
        self.deployment.join()

    def _join_site(self, followed: Followed) -> None:
        """In a worker: enter the site that the controlling process has prepared."""
        if self._joined:
            return
        followed.wait_begun()
        self._joined = True
        assert self.site is not None
        assert self.engine is not None
        self._reach_site(self.site, ())
        self.engine = Engine(self.site, self.plan, self.engine.steps, self.record.hear)

    def take_turn(self, item: pytest.Item) -> None:
        """In a worker: wait until no other lane disturbs what a test uses, or uses what it disturbs."""
        if self._worker:
            self._lane = lane_of(item)
            try:
                self._turns.take(item.nodeid, self.needs[item.nodeid])
            except OSError as error:
                self.admission.refuse(f"cannot write {error.filename}: {error.strerror}")

    def items_here(self, items: Sequence[pytest.Item]) -> list[pytest.Item]:
        """The tests that this process runs now: the current lane in a worker, otherwise all of `items`."""
        return [item for item in items if self._lane in (None, lane_of(item))]

    def services(self) -> frozenset[str]:
        """Service types of the steps that this deployment has finished so far, or of the checked site's steps."""
        if self.engine is None or self.site is None:
            return frozenset()
        there = [name for name in self.engine.steps if STEPS[name].nodes(self.site)]
        provided = {STEPS[name].provides for name in there if self.deployment.done(name)}
        return frozenset(provides for provides in provided if provides is not None)

    def admit(self, steps: Sequence[str]) -> None:
        """Let a test run, or fail or skip it because of a failed step."""
        if steps:
            self.admission.by_run()
        for name in steps:
            self.admission.by_step(self.deployment.failure(name))

    def admit_user(self) -> None:
        """Let a test log in, or fail or skip it; a deployment has already verified keystone in its own step."""
        if not self.deploying:
            self.admission.by_login(self.catalog.refusal())

    def require(self, step: str) -> None:
        """Skip a test of a step that is not in this site, or of a service that this cloud lacks."""
        if self.site is not None:
            self.admission.by_site(STEPS[step], self.site)
        if not self.deploying and self.engine is None:
            self.admission.by_cloud(STEPS[step], self.catalog)

    def changes(self, finding: Finding) -> list[Change]:
        """The changes that a declared resource still needs."""
        assert self.engine is not None
        return remaining_changes(finding, self.engine, self.deployment)

    # ---- end

    def end(self, *, interrupted: bool, stopped: bool = False) -> list[str]:
        """Wait for the engine, look for leftovers, and return the reasons why the run fails.

        :param interrupted: the user wants to stop now: running operations are not waited for
        :param stopped: no more tests follow (-x): running operations finish, and nothing new starts
        """
        if not self._began:
            return []
        if self.engine is not None and self.deploying:
            if interrupted or stopped:
                self.deployment.halt()
            if not interrupted:
                self.deployment.join()
                self._problems += untold_failures(self.engine.tasks, self.admission.told)
        if self.engine is not None and not interrupted and not self.unrecorded:
            try:
                evidence.write_versions(self.engine, self.record.log)
            except OSError as error:
                self.record.lost(error)
        if not interrupted and not self.planning:
            try:
                self._problems += leftovers(self.config, self.catalog, self.id, workers=self.lanes)
            except StackspecError as error:
                self._problems.append(str(error))
        return self._problems

    def summary(self) -> list[str]:
        """Lines for the end of the run."""
        lines = summary(self.engine.tasks) if self.engine is not None and self.deploying else []
        return [*lines, *(f"stackspec: {redact(problem)}" for problem in [*self._problems, self.unrecorded] if problem)]

    def close(self) -> None:
        """Close the connections to nodes, and release the terminal."""
        self.record.let_go()
        self._turns.give_back()
        if self.engine is not None:
            self.engine.connections.close()
        self._logs.close()
        self.record.close()
        if self._lock is not None:
            self._lock.release()


def _names(item: pytest.Item) -> Sequence[str]:
    return getattr(item, "fixturenames", ())


def _on_nodes(item: pytest.Item) -> bool:
    return bool({"node_host", "controller", "computes", "lab"} & set(_names(item)))

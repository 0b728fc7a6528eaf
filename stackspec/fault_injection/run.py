"""Tries faults on a deployed site: inject, test, evaluate the failures, undo, and verify that nothing is left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as tree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import suite
from ..errors import StackspecError
from ..lock import Lock, who
from ..node_connections import NodeConnections
from ..report.model import first_line
from ..resources.base import Query, run
from ..site import Site
from ..waiting import NotInTime, wait_for
from . import agent
from .fault import Fault, filled

ACTS_WITHIN = 180
"""Seconds for a fault to take effect on its node: heartbeats and leases expire within this time."""
CLEAN_WITHIN = 600
"""Seconds within which the tests must pass again after the undo."""
SETTLED_WITHIN = 120
"""Seconds within which the tests must pass before a fault is injected: its predecessor's services may be starting."""
EVERYTHING = "tests/infra"
"""Run in addition to the fault's own tests with --everything."""
_PREFIX = re.compile(r"^(?:failed on \w+ with \")?(?:Failed|AssertionError|[\w.]*NotInTime|[\w.]*Exception): ")
"""Prefix of the sentence in JUnit's message."""
ENOUGH = 12
"""Stop after this many failures: if a service is down, all its tests fail, some only after long timeouts."""


@dataclass(frozen=True)
class Case:
    """A test's result from JUnit.

    :param test: its node id
    :param seconds: its duration
    :param failure: the first line of its failure; empty if it passed
    """

    test: str
    seconds: float
    failure: str


@dataclass(frozen=True)
class Outcome:
    """The result of one test run.

    :param status: pytest's exit status
    :param seconds: to the first failure, or to the end
    :param failed: the tests that failed
    :param output: the end of what pytest printed
    """

    status: int
    seconds: float
    failed: tuple[Case, ...]
    output: str


@dataclass(frozen=True)
class Verdict:
    """The result of trying a fault.

    :param fault: its name
    :param digest: of its entry and the way it was tried: if it changes, the fault is tried again
    :param caught: the tests that failed; none: it was not caught
    :param line: the first line that names the cause, otherwise the first one
    :param named: whether a first line names the cause
    :param seconds: from the start of pytest to the first failure
    :param clean: whether the tests passed again after the undo
    :param trouble: why it could not be tried
    """

    fault: str
    digest: str
    caught: tuple[str, ...] = ()
    line: str = ""
    named: bool = False
    seconds: float = 0.0
    clean: bool = False
    trouble: str = ""

    @property
    def good(self) -> bool:
        """Caught, named, and cleanly undone."""
        return bool(self.caught) and self.named and self.clean

    def __str__(self) -> str:
        if self.trouble:
            return f"{self.fault}: could not be tried: {self.trouble}"
        words = ["NOT CAUGHT"] if not self.caught else ["caught" if self.named else "caught, CAUSE NOT NAMED"]
        words += [f"after {self.seconds:.0f} s by {self.caught[0]}"] if self.caught else []
        words += [] if self.clean else ["NOT CLEAN when undone"]
        return f"{self.fault}: {', '.join(words)}" + (f"\n    {self.line}" if self.line else "")


class Verdicts:
    """The verdicts on a site's faults, stored next to its runs: the latest one counts.

    :param path: the file
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Verdict]:
        """Verdicts by fault."""
        if not self._path.exists():
            return {}
        lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        return {line["fault"]: Verdict(**{**line, "caught": tuple(line["caught"])}) for line in lines}

    def add(self, verdict: Verdict) -> None:
        """Store a verdict."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as stream:
            stream.write(json.dumps(asdict(verdict)) + "\n")


def verdicts_of(site: Site) -> Verdicts:
    """The verdicts of a site."""
    assert site.state is not None
    return Verdicts(site.state / "faults.jsonl")


def digest(fault: Fault, everything: bool) -> str:
    """Digest of a fault and the way it is tried."""
    return hashlib.sha256(f"{fault.model_dump_json()} {everything}".encode()).hexdigest()[:16]


def selection(fault: Fault, everything: bool) -> list[str]:
    """The tests for a fault, as pytest arguments."""
    if everything:
        return list(dict.fromkeys([EVERYTHING, *(each for each in fault.shows if not each.startswith(EVERYTHING))]))
    return [*fault.shows, *(["-k", fault.only] if fault.only else [])]


def run_tests(site: Site, tests: Sequence[str]) -> Outcome:
    """Run tests on a site with pytest.

    :param tests: node ids, then pytest options
    """
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "--inventory", str(site.file), f"--junitxml={junit}"]
        command += [f"--maxfail={ENOUGH}", "-p", "no:cacheprovider", *suite.arguments(tests)]
        began = time.monotonic()
        done = site.outside(lambda: subprocess.run(command, capture_output=True, text=True))
        took = time.monotonic() - began
        cases, inside = _cases(junit)
    if not cases and done.returncode:
        # The run was refused before any test.
        text = next((line for line in done.stderr.splitlines() if line.startswith("ERROR: ")), done.stderr)
        cases = [Case("(before any test)", took, first_line(text.removeprefix("ERROR: ")))]
    failed = tuple(case for case in cases if case.failure)
    seconds = took
    if failed and inside:
        seconds = max(0.0, took - inside) + sum(case.seconds for case in cases[: cases.index(failed[0]) + 1])
    return Outcome(done.returncode, seconds, failed, "\n".join((done.stdout + done.stderr).splitlines()[-30:]))


def _cases(junit: Path) -> tuple[list[Case], float]:
    """The tests of a JUnit file and their total seconds."""
    if not junit.exists():
        return [], 0.0
    suite = next(tree.parse(junit).getroot().iter("testsuite"))
    found = []
    for case in suite.iter("testcase"):
        test = f"{str(case.get('classname')).replace('.', '/')}.py::{case.get('name')}"
        bad = [*case.iter("failure"), *case.iter("error")]
        text = first_line(bad[0].get("message") or bad[0].text or "?") if bad else ""
        found.append(Case(test, float(case.get("time") or 0), _PREFIX.sub("", text)))
    return found, float(suite.get("time") or 0)


class Nodes:
    """The nodes of a site, for injecting faults.

    :param site: the site, entered
    """

    def __init__(self, site: Site) -> None:
        self._connections = NodeConnections(site.inventory.ssh, site.nodes.values())
        self._connections.open()
        self._code = Path(agent.__file__).read_text()

    def _call(self, node: str, message: dict[str, Any]) -> list[str]:
        # On standard input: command lines are visible to all users.
        script = f"{self._code}\nmain(json.loads({json.dumps(message)!r}))\n"
        answer = self._ask(node, run("python3", "-", stdin=script))
        if answer["status"]:
            raise StackspecError(f"{node}: {(answer['err'] or answer['out']).strip()}")
        return str(answer["out"]).split()

    def _ask(self, node: str, query: Query) -> dict[str, Any]:
        answer: dict[str, Any] = self._connections[node].facts([query])[query]
        return answer

    def break_it(self, node: str, fault: Fault, site: Site) -> None:
        """Inject a fault and wait until it has taken effect.

        :raises StackspecError: it does not fit the site, or has no effect
        """
        operations = [filled(each, site, node) for each in fault.do]
        self._call(node, {"do": "break", "name": fault.name, "operations": operations})
        if not fault.acts:
            return
        query = run("sh", "-c", filled(fault.acts, site, node))
        try:
            wait_for(f"{fault.name} acts", lambda: self._ask(node, query)["status"] == 0, ACTS_WITHIN, every=1)
        except NotInTime as error:
            raise StackspecError(str(error)) from None

    def hold(self, holder: str) -> None:
        """Lock the nodes.

        :raises InputError: a deployment is in progress there
        """
        self._connections.hold(holder, lambda node, text: print(f"{node}: {text}", flush=True))

    def undo(self, node: str, name: str = "") -> list[str]:
        """Undo a fault, or all faults of a node; return the names of those undone."""
        return self._call(node, {"do": "undo", "name": name})

    def undo_all(self) -> list[str]:
        """Undo the faults left by killed runs."""
        return [f"{name} on {node}" for node in self._connections.names() for name in self.undo(node)]

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


@contextlib.contextmanager
def site_for_faults(site: Site) -> Iterator[Nodes]:
    """Lock a site for faults; leftovers of a killed run are undone first, and all faults at the end.

    :raises InputError: a deployment is in progress
    """
    assert site.state is not None
    lock = Lock(site.state / "lock")
    lock.take(who("faults"), f"site {site.name}")
    nodes = Nodes(site)
    try:
        nodes.hold(who("faults"))
        for each in nodes.undo_all():
            print(f"undone: {each}, left by an earlier run", flush=True)
        yield nodes
    finally:
        nodes.undo_all()
        nodes.close()
        lock.release()


def _until_passed(site: Site, tests: Sequence[str], within: float) -> Outcome:
    """Run tests again and again until they pass, or `within` seconds are over; return the last outcome."""
    until = time.monotonic() + within
    while (found := run_tests(site, tests)).status and time.monotonic() < until:
        pass
    return found


def try_fault(site: Site, nodes: Nodes, fault: Fault, everything: bool, say: Callable[[str], None]) -> Verdict:
    """Run tests, inject the fault, run them, undo it, and run them until they pass: only the fault makes them fail.

    :param everything: whether all of tests/infra is run as well
    :param say: called with progress
    """
    mark, tests, node = digest(fault, everything), selection(fault, everything), fault.node_of(site)
    say(f"{fault.name} on {node}: {fault.what}")
    before = _until_passed(site, tests, SETTLED_WITHIN)
    if before.status:
        reason = before.failed[0].failure if before.failed else before.output
        return Verdict(fault.name, mark, trouble=f"its tests fail without it: {reason}")
    try:
        try:
            nodes.break_it(node, fault, site)
            found = run_tests(site, tests)
        finally:
            nodes.undo(node, fault.name)
    except StackspecError as error:
        return Verdict(fault.name, mark, trouble=str(error))
    words = [filled(word, site, node).lower() for word in fault.says]
    naming = [case for case in found.failed if all(word in case.failure.lower() for word in words)]
    line = (naming or found.failed)[0].failure if found.failed else ""
    after = _until_passed(site, tests, CLEAN_WITHIN)
    if after.status:
        say(after.output)
    caught = tuple(case.test for case in (*naming, *found.failed))
    return Verdict(fault.name, mark, tuple(dict.fromkeys(caught)), line, bool(naming), found.seconds, after.status == 0)

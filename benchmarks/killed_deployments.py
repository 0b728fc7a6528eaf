#!/usr/bin/env python3
"""Interrupt deployments at random moments and resume them: the result must equal that of an uninterrupted deployment.

Three kinds in turn: all processes of the run are killed, the connection to a node is cut, a node loses its power. A
run that loses a node must report it, and is then killed as well. The next run boots nodes that are off.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from ipaddress import IPv4Address
from itertools import cycle
from pathlib import Path

from common import arguments, machine, main, site_of, spread

from stackspec.errors import InputError
from stackspec.lab import Lab, load

ROOT = Path(__file__).resolve().parent.parent
KINDS = ["run", "run", "connection", "run", "power"]
"""Kinds of interruptions, in turn."""
SAID = "lost|has not responded|not reachable|did not start|failed to start"
"""How a run reports a lost node."""
SAID_WITHIN = 90.0
"""Timeout in seconds for a run to report a lost node: 60, and some more for a busy machine."""


class Deployment:
    """A deployment run, in its own process group."""

    def __init__(self, inventory: Path, tests: list[str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name, "log")
        command = [sys.executable, "-m", "pytest", "--deploy", "-n0", "--inventory", str(inventory), *tests]
        with self._log.open("w") as log:
            self._child = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def output(self) -> str:
        """Its output so far."""
        return self._log.read_text(errors="replace")

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status, None if it has not ended after this many seconds."""
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def connection(self, address: IPv4Address) -> int | None:
        """The process id of its ssh to that address."""
        told = subprocess.run(
            ["ps", "-o", "pid=,args=", "-s", str(self._child.pid)], capture_output=True, text=True, check=True
        )
        words = [line.split(maxsplit=1) for line in told.stdout.splitlines()]
        return next((int(pid) for pid, line in words if line.startswith("ssh ") and f" {address} " in line), None)

    def says(self, pattern: str, seconds: float) -> bool:
        """Whether its output matches `pattern` within this many seconds."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.output()):
            if time.monotonic() > deadline or self.wait(0.2) is not None:
                return re.search(pattern, self.output()) is not None
        return True


def interrupt(kind: str, deployment: Deployment, lab: Lab, node: str) -> float | None:
    """Interrupt; seconds until the run reported the lost node, None if it did not.

    :param kind: one of KINDS
    """
    began = time.monotonic()
    if kind == "connection":
        ssh = deployment.connection(lab.spec.node(node).management.address)
        if ssh is None:
            kind = "run"  # It has not connected yet.
        else:
            os.kill(ssh, signal.SIGKILL)
    elif kind == "power":
        process = next(each for each in lab.nodes if each.node.name == node)
        if process.init is None:
            kind = "run"  # It has not been switched on yet.
        else:
            process.kill()
    said = kind == "run" or deployment.says(f"{node}.*({SAID})", SAID_WITHIN)
    took = time.monotonic() - began
    deployment.kill()
    return took if said else None


def run() -> int:
    """Run the interruptions, on a lab that is recreated after each finished deployment; status 1 if one went wrong."""
    parser = arguments(__doc__, rounds=25)
    parser.add_argument("--tests", nargs="+", default=["tests/infra/test_drift.py"], help="default: %(default)s")
    parser.add_argument("--longest", type=float, default=50, help="latest moment of an interruption in seconds")
    parser.add_argument("--seed", type=int, default=1, help="random seed of the moments")
    parser.add_argument("--keep", action="store_true", help="start with the existing lab")
    parser.add_argument(
        "--leave", action="store_true", help="end with the last interruption, for another run to resume"
    )
    chosen = parser.parse_args()
    site = site_of(chosen.inventory)
    if site.inventory.lab is None:
        raise InputError(f"{site.name} is not a lab: its nodes cannot be recreated")
    lab = Lab(load(site.file))
    if not chosen.keep:
        lab.down()
    moments, kinds, bad = random.Random(chosen.seed), cycle(KINDS), 0
    seconds: list[float] = []
    print(machine())

    def complain(text: str, deployment: Deployment) -> None:
        print(f"{text}\n{deployment.output()[-4000:]}", flush=True)

    done = 0
    while done < chosen.rounds:
        kind, node = next(kinds), moments.choice(list(site.nodes))
        moment = moments.uniform(5, chosen.longest)
        deployment = Deployment(site.file, chosen.tests)
        status = deployment.wait(moment)
        if status == 0:
            print("deployed: starting again from bare nodes", flush=True)
            lab.down()
            continue
        done += 1
        if status is not None:
            bad += 1
            complain(f"{done}: ended by itself with {status} after less than {moment:.0f} s", deployment)
            continue
        said = interrupt(kind, deployment, lab, node)
        what = "run killed" if kind == "run" else f"{kind} of {node} cut"
        print(f"{done}: {what} after {moment:.0f} s" + (f", reported after {said:.0f} s" if said else ""), flush=True)
        if said is None:
            bad += 1
            complain(f"not reported within {SAID_WITHIN:.0f} s", deployment)
        elif kind != "run":
            seconds.append(said)
    if not chosen.leave:
        began = time.monotonic()
        last = Deployment(site.file, chosen.tests)
        status = last.wait()
        print(f"the last ended with {status} in {time.monotonic() - began:.0f} s", flush=True)
        again = Deployment(site.file, chosen.tests)
        same = again.wait() == 0 and re.search(r"\b0 changes", again.output()) is not None
        for good, each in ((status == 0, last), (same, again)):
            if not good:
                bad += 1
                complain("differs from an uninterrupted deployment:", each)
    told = f"; lost nodes were reported after {spread(seconds, digits=0)}" if seconds else ""
    print(f"{chosen.rounds} interruptions, {bad} bad{told}")
    return 1 if bad else 0


if __name__ == "__main__":
    main(run)

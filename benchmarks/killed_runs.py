#!/usr/bin/env python3
"""Kill test runs at random moments, and clean up after each: all of its objects must be removed, and no others."""

from __future__ import annotations

import operator
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from common import arguments, machine, main, site_of

from stackspec.openstack import ownership
from stackspec.openstack.cloud import connect
from stackspec.reach import reach

ROOT = Path(__file__).resolve().parent.parent
TESTS = [
    "tests/e2e/test_server.py",
    "tests/e2e/test_stack.py",
    "tests/e2e/test_volume.py",
    "tests/e2e/test_object_store.py",
]
STRANGER = "ss-of-somebody-else"
"""A name with the prefix of run ids that is not one."""


def killed(inventory: Path, tests: list[str], seconds: float) -> str:
    """Start tests, kill all their processes after some seconds, and return the run's id."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "--inventory",
        str(inventory),
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    head = ""
    while not (found := re.search(r"run (ss-\S+)", head)):
        line = child.stdout.readline()
        assert line, f"the tests did not start:\n{head}"
        head += line
    time.sleep(seconds)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    return found[1]


def strangers(connection: Any) -> list[Any]:
    """Objects of somebody else, with names similar to those of a run."""
    network = connection.network
    return [
        network.create_network(name=STRANGER),
        network.create_security_group(name="copy-of-ss-20260101-000000-abcd", description=STRANGER),
        connection.block_storage.create_volume(name=f"{STRANGER}-volume", size=1),
        connection.identity.create_project(name=f"{STRANGER}-project"),
    ]


def lost(connection: Any, objects: list[Any]) -> list[str]:
    """The stranger's objects that no longer exist."""
    network, volume = connection.network, connection.block_storage
    looks = [network.find_network, network.find_security_group, volume.find_volume, connection.identity.find_project]
    return [each.name for look, each in zip(looks, objects, strict=True) if look(each.id) is None]


def remove(connection: Any, objects: list[Any]) -> None:
    """Remove the stranger's objects."""
    net, group, volume, project = objects
    connection.network.delete_network(net)
    connection.network.delete_security_group(group)
    connection.block_storage.delete_volume(volume)
    connection.identity.delete_project(project)


def run() -> int:
    """Kill and clean up in turn; status 1 if something was left, or something else was removed."""
    parser = arguments(__doc__, rounds=10)
    parser.add_argument("--tests", nargs="+", default=TESTS, help="default: %(default)s")
    parser.add_argument("--longest", type=float, default=90, help="latest moment of a kill in seconds")
    parser.add_argument("--seed", type=int, default=1, help="random seed of the moments")
    chosen = parser.parse_args()
    site = site_of(chosen.inventory)
    moments = random.Random(chosen.seed)
    print(machine())
    site, _ = reach(site)
    connection = connect(site)
    theirs = strangers(connection)
    bad = 0
    try:
        for _ in range(chosen.rounds):
            seconds = moments.uniform(2, chosen.longest)
            name = site.outside(partial(killed, site.file, chosen.tests, seconds))
            before = len(ownership.leftovers(connection, name))
            began = time.monotonic()
            words = [sys.executable, "-m", "stackspec.commands.cli", "cleanup", name, "--inventory", str(site.file)]
            done = site.outside(partial(subprocess.run, words, cwd=ROOT, capture_output=True, text=True))
            left = [str(each) for each in ownership.leftovers(connection, partial(operator.eq, name))]
            gone = lost(connection, theirs)
            print(
                f"killed after {seconds:.0f} s: {before} objects, cleanup ended with {done.returncode} in "
                f"{time.monotonic() - began:.0f} s, left: {', '.join(left) or 'none'}, "
                f"removed from others: {', '.join(gone) or 'none'}",
                flush=True,
            )
            if done.returncode or left or gone:
                bad += 1
                print((done.stdout + done.stderr)[-2000:], flush=True)
    finally:
        remove(connection, theirs)
    print(f"{chosen.rounds - bad} of {chosen.rounds} runs left nothing and removed nothing else")
    return 1 if bad else 0


if __name__ == "__main__":
    main(run)

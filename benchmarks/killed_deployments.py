#!/usr/bin/env python3
"""Kill a deployment at random moments and start it again: it has to end as one that nobody killed does."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import arguments, machine, main, site_of

from lab import Lab, load
from stackspec.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


def deploy(inventory: Path, tests: list[str], *, kill_after: float | None = None) -> tuple[int, str]:
    """Deploy what tests need; pytest's status and output, or those of a deployment that was killed.

    :param kill_after: seconds after which all processes of the run are killed
    """
    command = [sys.executable, "-m", "pytest", "--deploy", "-n0", "--inventory", str(inventory), *tests]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, _ = child.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
    return child.returncode, output


def run() -> int:
    """Deploy a fresh lab in each round, killed once; status 1 when a round does not end as it should."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--tests", nargs="+", default=["tests/infra/test_drift.py"], help="default: %(default)s")
    parser.add_argument("--longest", type=float, default=600, help="seconds after which it is killed at the latest")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    chosen = parser.parse_args()
    site = site_of(chosen.inventory)
    if site.inventory.lab is None:
        raise InputError(f"{site.name} is no lab: its nodes cannot be made anew for each round")
    moments, bad = random.Random(chosen.seed), 0
    print(machine())
    for _ in range(chosen.rounds):
        Lab(load(site.file)).down()
        moment = moments.uniform(5, chosen.longest)
        deploy(site.file, chosen.tests, kill_after=moment)
        began = time.monotonic()
        status, output = deploy(site.file, chosen.tests)
        took = time.monotonic() - began
        again, last = deploy(site.file, chosen.tests)
        same = re.search(r"stackspec: 0 changes", last) is not None
        good = status == again == 0 and same
        print(
            f"killed after {moment:.0f} s: the next ended with {status} in {took:.0f} s, the one after that with "
            f"{again} and {'0 changes' if same else 'CHANGES'}",
            flush=True,
        )
        if not good:
            bad += 1
            print((output if status else last)[-3000:], flush=True)
    print(f"{chosen.rounds - bad} of {chosen.rounds} ended as one that nobody killed")
    return 1 if bad else 0


if __name__ == "__main__":
    main(run)

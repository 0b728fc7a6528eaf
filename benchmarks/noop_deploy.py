#!/usr/bin/env python3
"""Wall time of `pytest --deploy` on a deployed site, without changes: of the deployment alone, and with its tests.

It runs every step (the drift test needs all of them), so it checks every declared resource.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from common import arguments, machine, main, site_of, spread

from stackspec.errors import InputError
from stackspec.lab import Lab, load
from stackspec.plugin.deployment import ENDED
from stackspec.report.events import EventLog

ROOT = Path(__file__).resolve().parent.parent


def run() -> int:
    """Measure, and print the median."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--tests", nargs="+", default=["tests/infra/test_drift.py"], help="default: %(default)s")
    chosen = parser.parse_args()
    site = site_of(chosen.inventory)
    # A stopped lab would be started and deployed, which is a different benchmark.
    if site.inventory.lab is not None and not Lab(load(site.file)).is_up():
        raise InputError(f"the lab {site.inventory.lab.name} is not running; deploy it first: ./run --deploy tests/")
    command = [sys.executable, "-m", "pytest", "--deploy", "--inventory", str(chosen.inventory.resolve())]
    # Workers take longer to start than the drift test, which is one lane, takes to run.
    command += ["-n0", "-p", "no:cacheprovider", *chosen.tests]
    deployed: list[float] = []
    times: list[float] = []
    for number in range(chosen.rounds):
        began = time.time()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        times.append(time.time() - began)
        made = re.search(r"^stackspec: (\d+) changes", done.stdout, re.MULTILINE)
        if done.returncode != 0 or made is None or made[1] != "0":
            what = f"{made[1]} changes" if made else "no summary"
            print("\n".join((done.stdout + done.stderr).splitlines()[-30:]))
            print(f"round {number + 1}: exit status {done.returncode}, {what}; 0 and 0 changes are needed")
            return 1
        deployed.append(_deployed(done.stdout) - began)
        print(f"round {number + 1}: deployed after {deployed[-1]:.2f} s, with tests {times[-1]:.2f} s", flush=True)
    print(f"no-op deploy of {site.name}: {spread(deployed)}, with tests {spread(times)}; {machine()}")
    return 0


def _deployed(output: str) -> float:
    """When the deployment of a run ended, in seconds since the epoch.

    :param output: of the run, which names its report
    """
    report = re.findall(r"^report: (\S+)$", output, re.MULTILINE)[-1]
    (ended,) = (each for each in EventLog(Path(report).with_name("events.jsonl")).read() if each["event"] == ENDED)
    return float(ended["time"])


if __name__ == "__main__":
    main(run)

"""CPU seconds of a command that uses a lab, by node, service and phase: during the deployment, and after it.

The kernel counts per control group, which includes ended processes. A UML node is one process for the host's kernel, so
it has only one row.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from common import machine

from stackspec.lab.cgroup import root
from stackspec.report import events

EVERY = 5.0
"""Seconds between two samples: usage of a service after its last sample counts only for its node."""
COMMAND, MACHINE = "the command itself", "the whole machine"
SHOWN = 40
"""Rows of the table."""
Usage = dict[str, float]


def usage_of(lab: Path) -> Usage:
    """CPU seconds of the lab's groups since their creation, by path; each including its subgroups."""
    found: Usage = {}
    for folder, _, files in os.walk(lab):
        if "cpu.stat" in files:
            try:
                words = (Path(folder) / "cpu.stat").read_text().split()
            except OSError:  # it has disappeared
                continue
            found[str(Path(folder).relative_to(lab))] = int(words[words.index("usage_usec") + 1]) / 1e6
    return found


def of_process(pid: int) -> float:
    """CPU seconds of a process and of its ended children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def of_machine() -> float:
    """Busy seconds of the host's processors since boot."""
    user, nice, system, _idle, _wait, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def look(lab: Path, pid: int) -> Usage:
    """All counters now."""
    found = {path: seconds for path, seconds in usage_of(lab).items() if path.count("/") <= 2}
    return {**found, COMMAND: of_process(pid), MACHINE: of_machine()}


def watch(command: list[str], lab: Path) -> tuple[int, list[tuple[float, Usage]]]:
    """Run a command and sample the counters meanwhile.

    :returns: its exit status, and the samples with their times
    """
    process = subprocess.Popen(command)
    looks = [(time.time(), look(lab, process.pid))]
    while True:
        try:
            status = process.wait(EVERY)
        except subprocess.TimeoutExpired:
            looks.append((time.time(), look(lab, process.pid)))
            continue
        last = {**look(lab, process.pid), COMMAND: looks[-1][1][COMMAND]}
        return status, [*looks, (time.time(), last)]


def used(looks: list[tuple[float, Usage]]) -> Usage:
    """Usage between the first and the last of `looks`; a recreated group counts from zero."""
    total: Usage = defaultdict(float)
    for (_, before), (_, after) in itertools.pairwise(looks):
        for path, seconds in after.items():
            known = before.get(path, 0.0)
            total[path] += seconds - known if seconds >= known else seconds
    return total


def rows(total: Usage) -> Usage:
    """Seconds by node and service: `controller keystone`; everything else is the node's `others`."""
    found: Usage = {name: total[name] for name in (MACHINE, COMMAND)}
    for path, seconds in total.items():
        parts = path.split("/")
        if path in found or path == ".":
            continue
        node = parts[0].removeprefix("node-")
        if len(parts) == 1:
            found[f"{node} others"] = found.get(f"{node} others", 0.0) + seconds
        elif len(parts) == 3:
            found[f"{node} {parts[2].removesuffix('.service')}"] = seconds
            found[f"{node} others"] = found.get(f"{node} others", 0.0) - seconds
    return found


def phases(looks: list[tuple[float, Usage]]) -> dict[str, list[tuple[float, Usage]]]:
    """The samples during the deployment and after it; all of them for a run without deployment."""
    path = events.latest_run()
    ends = [event["time"] for event in events.read(path) if event["event"] == "deployed"] if path is not None else []
    if not ends or not looks[0][0] < ends[-1] < looks[-1][0]:
        return {"run": looks}
    first = [each for each in looks if each[0] <= ends[-1]]
    return {"deploy": first, "validate": looks[len(first) - 1 :]}


def table(found: dict[str, list[tuple[float, Usage]]]) -> str:
    """Rows with a column for each phase, the highest first."""
    columns = {name: rows(used(looks)) for name, looks in found.items()}
    whole: Usage = defaultdict(float)
    for column in columns.values():
        for name, seconds in column.items():
            whole[name] += seconds
    lines = [f"{'processor seconds':<44}" + "".join(f"{name:>10}" for name in columns) + f"{'sum':>10}"]
    for name in sorted(whole, key=lambda each: -whole[each])[:SHOWN]:
        cells = "".join(f"{column.get(name, 0.0):10.0f}" for column in columns.values())
        lines.append(f"{name:<44}{cells}{whole[name]:10.0f}")
    walls = {name: looks[-1][0] - looks[0][0] for name, looks in found.items()}
    cells = "".join(f"{seconds:10.0f}" for seconds in walls.values())
    lines.append(f"{'wall seconds':<44}{cells}{sum(walls.values()):10.0f}")
    share = whole[MACHINE] / (os.cpu_count() or 1) / sum(walls.values())
    return "\n".join([*lines, f"processors busy: {share:.0%} of the wall time"])


def main() -> int:
    """Run the command, print the table, and exit with the command's status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="lab", help="name of the lab (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to this file")
    parser.add_argument("command", nargs="+", help="after --, for example: ./run --deploy tests/")
    arguments = parser.parse_args()
    status, looks = watch(arguments.command, root() / f"ss-{arguments.name}")
    if arguments.json:
        arguments.json.write_text(json.dumps(looks))
    print(table(phases(looks)))
    print(machine())
    return status


if __name__ == "__main__":
    sys.exit(main())

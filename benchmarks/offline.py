#!/usr/bin/env python3
"""Deploy a lab from a bundle and a mirror, and count what its nodes and its proxy asked of anybody else.

It makes both from the lab, which has to be deployed; takes the lab down; and deploys it again with an empty cache. It
fails unless the proxy answered every request from the mirror, and no packet of a node or guest was refused.
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import arguments, machine, main, site_of

from stackspec.lab import Lab, LabError, load

ROOT = Path(__file__).resolve().parent.parent
OWN = ("local", "kept")
"""How the proxy logs requests that it answers from this machine."""


def asked(log: Path) -> collections.Counter[str]:
    """Requests in a proxy's log by outcome: its own words, or the status of an archive's answer."""
    return collections.Counter(line.split()[1] for line in log.read_text().splitlines() if line.count(" ") > 2)


def run() -> int:
    """Deploy offline, and print the counts."""
    parser = arguments(__doc__)
    parser.add_argument("--tests", nargs="+", default=["tests/e2e/test_server.py"], help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="keep bundle and mirror there (default: a temporary folder)")
    chosen = parser.parse_args()
    path = site_of(chosen.inventory).file
    lab = Lab(load(path))
    if not lab.is_up():
        raise LabError(f"the lab {lab.spec.name} is not running; deploy it first")
    with tempfile.TemporaryDirectory(prefix="offline-", dir="/var/tmp") as temporary:
        folder = (chosen.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        stackspec = [sys.executable, "-m", "stackspec.commands.cli"]
        where = ["--inventory", str(path)]
        subprocess.run([*stackspec, "bundle", *where, str(folder / "bundle")], cwd=ROOT, check=True)
        subprocess.run([*stackspec, "lab", "mirror", *where, str(folder / "mirror")], cwd=ROOT, check=True)
        lab.down()
        alone = {"STACKSPEC_CACHE": f"{temporary}/cache", "STACKSPEC_MIRROR": str(folder / "mirror" / "debian")}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--deploy",
            *where,
            "--bundle",
            str(folder / "bundle"),
            *chosen.tests,
        ]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **alone})
        seconds = time.perf_counter() - began
        counts, refused = asked(lab.folder.root / "proxy.log"), lab.drops()
        lab.down()
    outcome = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    print(f"{lab.spec.name} offline: exit status {done.returncode} after {seconds:.0f} s; {machine()}")
    print(f"requests to the proxy: {outcome}; refused packets: {refused}")
    others = sum(number for word, number in counts.items() if word not in OWN)
    return int(done.returncode != 0 or not counts or others > 0 or refused > 0)


if __name__ == "__main__":
    main(run)

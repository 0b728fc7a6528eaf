"""Runs a command, and everything it starts, with a limited share of CPU time. Nothing may fail because of that.

The limit is a CPU quota of the command's control group. It also applies to processes that the command leaves running.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import machine

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""The quota's period in microseconds: the kernel's default."""


def limited(name: str, share: float) -> Path:
    """Create a control group with a limited share of CPU time.

    :param name: of the group
    :param share: 0.5 is half of the time of all processors
    :raises OSError: this user may not create control groups
    """
    quota = int(share * (os.cpu_count() or 1) * PERIOD)
    old = ROOT / "cpu" / name
    if old.parent.is_dir():
        old.mkdir(exist_ok=True)
        (old / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        return old
    group = ROOT / name
    group.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):  # refused if it is already enabled
        (ROOT / "cgroup.subtree_control").write_text("+cpu\n")
    (group / "cpu.max").write_text(f"{quota} {PERIOD}\n")
    return group


def release(group: Path) -> None:
    """Remove the group; its remaining processes are no longer limited."""
    while pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
    group.rmdir()


def held(group: Path) -> float:
    """Total seconds for which the quota throttled the group."""
    words = (group / "cpu.stat").read_text().split()
    if "throttled_usec" in words:
        return int(words[words.index("throttled_usec") + 1]) / 1e6
    return int(words[words.index("throttled_time") + 1]) / 1e9


def main() -> int:
    """Run the command, print its duration, and exit with its status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.5, help="share of CPU time (default: %(default)s)")
    parser.add_argument("--name", default="ss-half-speed", help="name of the control group (default: %(default)s)")
    parser.add_argument("command", nargs="+", help="after --, for example: ./run --deploy tests/")
    arguments = parser.parse_args()
    try:
        group = limited(arguments.name, arguments.share)
    except OSError as error:
        parser.exit(4, f"half_speed.py: no control group with a quota: {error}\n")
    began = time.monotonic()
    # Otherwise a killed benchmark leaves its group, and a lab that stays slow.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        enter = 'echo 0 > "$0" && exec "$@"'
        status = subprocess.run(["sh", "-c", enter, str(group / "cgroup.procs"), *arguments.command]).returncode
        print(
            f"{arguments.share:.0%} of the CPU time: status {status} after {time.monotonic() - began:.0f} s, "
            f"{held(group):.0f} s throttled"
        )
    finally:
        release(group)
    print(machine())
    return status


if __name__ == "__main__":
    sys.exit(main())

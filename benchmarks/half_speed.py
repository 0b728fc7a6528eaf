"""A command held to a part of the processors' time: what it starts, a lab and its guests, too. Nothing may fail for it.

The limit is a quota of a control group that the command is started in. It stays with what the command leaves running.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from common import machine

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds in which the quota may be used: the kernel's default."""


def limited(name: str, share: float) -> Path:
    """Make a control group that gets a part of the processors' time.

    :param name: of the group
    :param share: 0.5 is half of all processors' time
    :raises OSError: the machine's control groups do not let this user
    """
    quota = int(share * (os.cpu_count() or 1) * PERIOD)
    old = ROOT / "cpu" / name
    if old.parent.is_dir():
        old.mkdir(exist_ok=True)
        (old / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        return old
    group = ROOT / name
    group.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):  # it may be on already, and then be refused
        (ROOT / "cgroup.subtree_control").write_text("+cpu\n")
    (group / "cpu.max").write_text(f"{quota} {PERIOD}\n")
    return group


def release(group: Path) -> None:
    """Remove the group; what still runs in it gets all of the processors again."""
    while pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(pid)
    group.rmdir()


def held(group: Path) -> float:
    """Seconds for which the group's processors, together, were kept from work by the quota."""
    words = (group / "cpu.stat").read_text().split()
    if "throttled_usec" in words:
        return int(words[words.index("throttled_usec") + 1]) / 1e6
    return int(words[words.index("throttled_time") + 1]) / 1e9


def main() -> int:
    """Run the command, say what it took, and end with its status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.5, help="of all processors' time (default: %(default)s)")
    parser.add_argument("--name", default="ss-half-speed", help="of the control group (default: %(default)s)")
    parser.add_argument("command", nargs="+", help="after --, for example: ./run --deploy tests/")
    arguments = parser.parse_args()
    try:
        group = limited(arguments.name, arguments.share)
    except OSError as error:
        parser.exit(4, f"half_speed.py: no control group with a quota: {error}\n")
    began = time.monotonic()
    try:
        enter = 'echo 0 > "$0" && exec "$@"'
        status = subprocess.run(["sh", "-c", enter, str(group / "cgroup.procs"), *arguments.command]).returncode
        print(
            f"{arguments.share:.0%} of the processors' time: status {status} after {time.monotonic() - began:.0f} s, "
            f"{held(group):.0f} s of them kept from work"
        )
    finally:
        release(group)
    print(machine())
    return status


if __name__ == "__main__":
    sys.exit(main())

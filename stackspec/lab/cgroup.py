"""The lab's control groups: they identify the lab's processes, whatever happened to their parents.

`ss-<lab>/node-<node>` contains a node, `ss-<lab>/proxy` the package proxy, `ss-<lab>/helpers` processes that wait for
nodes. The kernel tracks the membership, so there are no pid files, which could be stale.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .error import LabError


def root() -> Path:
    """The mount point of the version 2 control groups.

    :raises LabError: when they are not mounted
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, path, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(path)
    raise LabError(
        "The lab needs version 2 control groups. Mount them: "
        "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


def members(group: Path) -> list[int]:
    """Process ids in a group and the groups below it; empty if there is no such group."""
    found: list[int] = []
    for path in [group, *_below(group)]:
        with contextlib.suppress(OSError):
            found += [int(word) for word in (path / "cgroup.procs").read_text().split()]
    return [pid for pid in found if pid]


def init_of(group: Path) -> int | None:
    """Process id, in the host's namespace, of the node's init in a group; None if the node is not running."""
    for path in (group / "init.scope", group):
        with contextlib.suppress(OSError):
            for word in (path / "cgroup.procs").read_text().split():
                if _id_inside(int(word)) == 1:
                    return int(word)
    return None


def spawn(group: Path, argv: Sequence[str | Path], log: Path, env: dict[str, str] | None = None) -> None:
    """Start a process that outlives this one: in its own session and group, output in a file, without our handles.

    :param group: the control group, created if missing
    :param argv: the command
    :param log: file that its output is appended to
    :param env: its whole environment, default: ours
    """
    group.mkdir(parents=True, exist_ok=True)
    enter = 'echo 0 > "$0" && exec "$@"'
    command = ["setsid", "--fork", "sh", "-c", enter, str(group / "cgroup.procs"), *map(str, argv)]
    with log.open("ab") as output:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/", env=env, check=True
        )


def kill(group: Path, deadline: float = 20.0) -> None:
    """Kill every process in a group and below, wait until they are gone, and remove the groups.

    :param deadline: seconds to wait
    :raises LabError: naming the remaining processes
    """
    if not group.is_dir():
        return
    end = time.monotonic() + deadline
    while True:
        try:
            (group / "cgroup.kill").write_text("1")
        except OSError:  # before Linux 5.14
            for pid in members(group):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if _remove(group):
            return
        if time.monotonic() > end:
            raise LabError(f"Processes {members(group)} of {group.name} are still alive {deadline:.0f} s after SIGKILL")
        time.sleep(0.02)


def wait_empty(group: Path, deadline: float) -> bool:
    """Wait until a group has no process.

    :param deadline: seconds to wait
    :returns: whether it is empty
    """
    end = time.monotonic() + deadline
    while members(group):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def memory(group: Path) -> int:
    """Memory of a group's processes in MiB, with shared pages counted once."""
    total = 0
    for pid in members(group):
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(text.split("\nPss:")[1].split()[0])
    return total // 1024


def uptime(pid: int) -> float:
    """Seconds since a process started; 0.0 when it is gone."""
    try:
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return 0.0
    now = float(Path("/proc/uptime").read_text().split()[0])
    return now - started / os.sysconf("SC_CLK_TCK")


def _below(group: Path) -> list[Path]:
    return [Path(path) / name for path, names, _ in os.walk(group) for name in names]


def _remove(group: Path) -> bool:
    for path in [*reversed(_below(group)), group]:
        with contextlib.suppress(FileNotFoundError, OSError):
            path.rmdir()
    return not group.exists()


def _id_inside(pid: int) -> int | None:
    """The process id inside the innermost process namespace, None if it is the host's."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                ids = line.split()[1:]
                return int(ids[-1]) if len(ids) > 1 else None
    return None

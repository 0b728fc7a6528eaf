"""A node as a container: its own systemd on the host's kernel."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from . import cgroup, identity, network
from .error import run
from .mirror import Mirror
from .node import NodeProcess
from .spec import Disk

_BOOT = Path(__file__).with_name("boot.sh")


class Container(NodeProcess):
    """A node with a writable overlayfs layer on top of the root file system."""

    def make(self, upper: Path, mirror: Mirror, keys: Path, rootfs: Path, say: Callable[[str], None]) -> None:
        """Create its writable layer."""
        identity.make_upper(self.spec, self.node, mirror, keys, upper)

    def boot(self, layers: Sequence[Path]) -> None:
        """Start its init in its own namespaces."""
        network.make_node(self.spec, self.node)
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "NAME": self.node.name,
            "NETNS": str(network.NAMESPACES / network.namespace(self.spec, self.node)),
            "GROUP": str(self.group),
            "NODE": str(self.folder),
            "LOWER": ":".join(map(str, layers)),
            "COMPILED": str(self.compiled()),
        }
        cgroup.spawn(self.group.with_name("helpers"), ["sh", _BOOT], self.console, env)

    def plug(self, new: Sequence[Disk]) -> None:
        """Create devices, including those missing after an earlier attempt."""
        if self.node.disks and (pid := self.init) is not None:
            env = [f"NODE={self.folder}", f"DEV=/proc/{pid}/root/dev"]
            run(["env", *env, "sh", _BOOT, "attach"], f"attach the disks of {self.node.name}")

    def ready(self) -> bool:
        """Whether its ssh server listens: read from the kernel, since a connection would appear in its log."""
        pid = self.init
        return pid is not None and any(_listens(pid, table) for table in ("tcp", "tcp6"))

    def enter(self, words: Sequence[str]) -> list[str]:
        """Enters its namespaces, independent of its network and ssh server."""
        env = ["env", "-i", "HOME=/root", "USER=root", "LOGNAME=root", f"TERM={os.environ.get('TERM', 'dumb')}"]
        env.append("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        command = [*env, "sh", "-c", 'cd && exec "$@"', "sh", *(words or ("bash", "--login"))]
        return ["nsenter", "-t", str(self.init), "-a", *command]

    def press_power_button(self) -> None:
        """Uses systemd's shutdown signal."""
        if (pid := self.init) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGRTMIN + 4)  # systemd: poweroff.target

    def kill(self) -> None:
        """Its loop devices belong to the host and outlive it."""
        super().kill()
        # The helper that waits for the node does this as well, unless it was killed too.
        detach(self.folder)


def detach(folder: Path) -> None:
    """Detach the loop devices left by a stopped node.

    :param folder: the node's directory
    """
    if (folder / "device").exists() or (folder / "disks").exists():
        run(["env", f"NODE={folder}", "sh", _BOOT, "detach"], f"detach the loop devices of {folder.name}")


def _listens(pid: int, table: str) -> bool:
    """Whether something listens on port 22 (0016), state 0A, in the network namespace of a process."""
    try:
        rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(row.split()[1].endswith(":0016") and row.split()[3] == "0A" for row in rows)

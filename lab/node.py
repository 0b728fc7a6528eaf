"""One node: how it starts, when it is ready, how it stops."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from lab import cgroup, disks, network
from lab.error import LabError, run
from lab.spec import LabSpec, Node

_BOOT = Path(__file__).with_name("boot.sh")


@dataclass(frozen=True)
class NodeStatus:
    """What a node does: state is `running`, `starting` (no ssh yet) or `stopped`; memory in MiB, uptime in s."""

    name: str
    address: str
    state: str
    pid: int | None = None
    memory: int = 0
    uptime: float = 0.0


class NodeProcess:
    """A node of a lab on this machine.

    :param spec: the lab
    :param node: the node
    :param folder: its directory: writable layer, disks, console output
    """

    def __init__(self, spec: LabSpec, node: Node, folder: Path) -> None:
        self.spec = spec
        self.node = node
        self.folder = folder
        self.group = cgroup.root() / spec.prefix / f"node-{node.name}"

    @property
    def init(self) -> int | None:
        """Process id of its init, None when it does not run."""
        return cgroup.init_of(self.group)

    @property
    def console(self) -> Path:
        """What booting it printed."""
        return self.folder / "console.log"

    def start(self, lower: str) -> None:
        """Boot it; returns before it is ready.

        :param lower: the read-only layers below its writable one, newest first, as overlayfs wants them
        :raises LabError: when its network cannot be made
        """
        self.kill()
        network.make_node(self.spec, self.node)
        disks.make(self.spec, self.node, self.folder / "disks")
        self.group.mkdir(parents=True, exist_ok=True)
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "NAME": self.node.name,
            "NETNS": str(network.NAMESPACES / network.namespace(self.spec, self.node)),
            "GROUP": str(self.group),
            "NODE": str(self.folder),
            "LOWER": lower,
        }
        self.console.unlink(missing_ok=True)
        cgroup.spawn(self.group.with_name("helpers"), ["sh", _BOOT], self.console, env)

    def attach_disks(self) -> None:
        """Give it, while it runs, the disks of the inventory that it has not got; nothing happens to the others.

        :raises LabError: when a device cannot be made
        """
        disks.make(self.spec, self.node, self.folder / "disks")
        if self.node.disks and (pid := self.init) is not None:
            env = [f"NODE={self.folder}", f"DEV=/proc/{pid}/root/dev"]
            run(["env", *env, "sh", _BOOT, "attach"], f"attach the disks of {self.node.name}")

    def ready(self) -> bool:
        """Whether its ssh server listens: read from the kernel, as a connection would be noise in its log."""
        pid = self.init
        return pid is not None and any(_listens(pid, table) for table in ("tcp", "tcp6"))

    def answers(self) -> bool:
        """Whether its ssh server greets; to be called inside the lab's network namespace."""
        try:
            with socket.create_connection((str(self.node.management.address), 22), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def wait_ready(self, deadline: float) -> None:
        """Wait until its ssh server answers; to be called inside the lab's network namespace.

        :param deadline: seconds to wait
        :raises LabError: with the end of its console
        """
        begun = time.monotonic()
        seen = False
        while not (self.ready() and self.answers()):
            alive = self.init is not None
            seen = seen or alive
            waited = time.monotonic() - begun
            if waited > deadline or (not alive and (seen or waited > 10)):
                tail = "\n".join(self.console.read_text(errors="replace").splitlines()[-15:])
                what = f"no ssh after {waited:.0f} s" if alive else "its init ended"
                raise LabError(
                    f"The node {self.node.name} does not start: {what}. Console ({self.console}):\n{tail}\n"
                    f"Look at it with: stackspec lab shell {self.node.name} journalctl -b; or start over: "
                    "stackspec lab down"
                )
            time.sleep(0.05)

    def stop(self, deadline: float = 60.0) -> None:
        """Shut it down as its power button would, or kill it when that takes too long.

        :param deadline: seconds until it is killed
        """
        if (pid := self.init) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGRTMIN + 4)  # systemd: poweroff.target
            cgroup.wait_empty(self.group, deadline)
        self.kill()

    def kill(self) -> None:
        """Make it gone at once, as without power, with the loop devices that it leaves."""
        cgroup.kill(self.group)
        # What waits for the node does this too, unless it was killed as well.
        detach(self.folder)

    def status(self) -> NodeStatus:
        """Its state."""
        address, pid = str(self.node.management.address), self.init
        if pid is None:
            return NodeStatus(self.node.name, address, "stopped")
        state = "running" if self.ready() else "starting"
        return NodeStatus(self.node.name, address, state, pid, cgroup.memory(self.group), cgroup.uptime(pid))


def detach(folder: Path) -> None:
    """Detach the loop devices that a node which ended has left.

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

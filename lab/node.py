"""One node: how it starts, when it is ready, how it stops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from lab import cgroup, network
from lab.error import LabError, run
from lab.spec import LabSpec, Node


@dataclass(frozen=True)
class NodeStatus:
    """What a node does: state is `running` (ssh answers), `starting` or `stopped`; memory in MiB, uptime in seconds."""

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
    :param folder: its directory: writable layer, console output
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
        script = Path(__file__).with_name("boot.sh")
        cgroup.spawn(self.group.with_name("helpers"), ["sh", script], self.console, env)

    def ready(self) -> bool:
        """Whether its ssh server answers; to be called inside the lab's network namespace."""
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
        while not self.ready():
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
        pid = self.init
        device = _device(pid) if pid else None
        cgroup.kill(self.group)
        if device:
            _detach(device)

    def status(self, ready: bool) -> NodeStatus:
        """Its state.

        :param ready: whether its ssh server answers
        """
        address, pid = str(self.node.management.address), self.init
        if pid is None:
            return NodeStatus(self.node.name, address, "stopped")
        state = "running" if ready else "starting"
        return NodeStatus(self.node.name, address, state, pid, cgroup.memory(self.group), cgroup.uptime(pid))


def _device(pid: int) -> str | None:
    """The device number of a process's root file system, as `major:minor`."""
    try:
        number = os.stat(f"/proc/{pid}/root/").st_dev
    except OSError:
        return None
    return f"{os.major(number)}:{os.minor(number)}"


def _detach(device: str) -> None:
    """Detach the loop devices whose files are on a node's root: devices are the machine's and outlive the node."""
    out = run(["losetup", "--list", "--json", "--output", "NAME,BACK-MAJ:MIN"], "list loop devices", check=False)
    for row in json.loads(out)["loopdevices"] if out.strip() else []:
        if str(row["back-maj:min"]).strip() == device:
            run(["losetup", "--detach", row["name"]], f"detach {row['name']}", check=False)

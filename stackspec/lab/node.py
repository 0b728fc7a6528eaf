"""A node of any kind: its state, readiness and shutdown."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..waiting import NotInTime, wait_for
from . import cgroup, disks
from .error import LabError
from .mirror import Mirror
from .spec import Disk, LabSpec, Node

BEGINS_WITHIN = 30.0
"""Timeout in seconds of a node's first process."""


@dataclass(frozen=True)
class NodeStatus:
    """What a node does: state is `running`, `starting` (no ssh yet) or `stopped`; memory in MiB, uptime in s."""

    name: str
    address: str
    state: str
    pid: int | None = None
    memory: int = 0
    uptime: float = 0.0


class NodeProcess(ABC):
    """A node of a lab on this machine.

    :param spec: the lab
    :param node: the node
    :param folder: its directory: writable layer, disks, console output
    :param cache: the lab's cache directory
    """

    stops_within: float = 60.0
    """Timeout of a shutdown in seconds, after which the node is killed."""

    def __init__(self, spec: LabSpec, node: Node, folder: Path, cache: Path) -> None:
        self.spec = spec
        self.node = node
        self.folder = folder
        self.cache = cache
        self.group = cgroup.root() / spec.prefix / f"node-{node.name}"

    @property
    def init(self) -> int | None:
        """Process id of the first process in its process namespace, None when the node does not run."""
        return cgroup.init_of(self.group)

    @property
    def console(self) -> Path:
        """Its console output."""
        return self.folder / "console.log"

    @property
    def disks(self) -> Path:
        """The directory of its disks."""
        return self.folder / "disks"

    def compiled(self) -> Path:
        """The host's directory of Python modules compiled by nodes; it is created if missing."""
        folder = self.cache / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def file_of(self, disk: Disk) -> Path:
        """The file of one of its disks."""
        return disks.file_of(self.spec, self.node, disk, self.disks)

    @abstractmethod
    def make(self, upper: Path, mirror: Mirror, keys: Path, rootfs: Path, say: Callable[[str], None]) -> None:
        """Create the node-specific part of a bare node.

        :param upper: the directory for it, which appears complete or not at all
        :param mirror: its package source
        :param keys: the lab's ssh directory
        :param rootfs: the root file system of all nodes
        :param say: called with a line before slow operations
        """

    def start(self, layers: Sequence[Path]) -> None:
        """Start booting; returns before it is ready.

        :param layers: its lower layers, newest first, the root file system of all nodes last
        :raises LabError: when its network or disks cannot be made
        """
        self.kill()
        disks.make(self.spec, self.node, self.disks)
        self.group.mkdir(parents=True, exist_ok=True)
        self.console.unlink(missing_ok=True)
        self.boot(layers)

    @abstractmethod
    def boot(self, layers: Sequence[Path]) -> None:
        """Start its processes."""

    def attach_disks(self) -> None:
        """Attach missing disks of the inventory while it runs; others are unchanged.

        :raises LabError: when a device cannot be made
        """
        new = [disk for disk in self.node.disks if not self.file_of(disk).exists()]
        disks.make(self.spec, self.node, self.disks)
        self.plug(new)

    @abstractmethod
    def plug(self, new: Sequence[Disk]) -> None:
        """Attach new disks to the running node."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether its ssh server listens."""

    @abstractmethod
    def enter(self, words: Sequence[str]) -> list[str]:
        """The command that runs `words`, or a login shell, as root on the node."""

    @abstractmethod
    def press_power_button(self) -> None:
        """Request a shutdown."""

    def answers(self) -> bool:
        """Whether its ssh server greets; to be called inside the lab's network namespace."""
        try:
            with socket.create_connection((str(self.node.management.address), 22), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def wait_ready(self, seconds: float) -> None:
        """Wait until its ssh server answers; to be called inside the lab's network namespace.

        :param seconds: the timeout at normal speed; the wait goes on while its console does
        :raises LabError: with the end of its console
        """
        start = time.monotonic()
        began = alive = False

        def answers_or_ended() -> bool:
            nonlocal began, alive
            alive = self.init is not None
            began = began or alive or time.monotonic() - start > BEGINS_WITHIN
            return (began and not alive) or (self.ready() and self.answers())

        try:
            wait_for(f"{self.node.name} accepts ssh", answers_or_ended, seconds, every=0.05, detail=self._console_end)
            if alive:
                return
            what = "its init ended"
        except NotInTime:
            what = f"no ssh after {time.monotonic() - start:.0f} s"
        raise LabError(
            f"The node {self.node.name} failed to start: {what}. Console ({self.console}):\n{self._console_end()}\n"
            f"Inspect it with: stackspec lab shell {self.node.name} journalctl -b; or start over: stackspec lab down"
        )

    def _console_end(self) -> str:
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """Shut it down as with the power button, or kill it if that takes too long."""
        if self.init is not None:
            self.press_power_button()
            cgroup.wait_empty(self.group, self.stops_within)
        self.kill()

    def kill(self) -> None:
        """Kill it as if power failed, and clean up its resources on the host."""
        cgroup.kill(self.group)

    def status(self) -> NodeStatus:
        """Its state."""
        address, pid = str(self.node.management.address), self.init
        if pid is None:
            return NodeStatus(self.node.name, address, "stopped")
        state = "running" if self.ready() else "starting"
        return NodeStatus(self.node.name, address, state, pid, cgroup.memory(self.group), cgroup.uptime(pid))

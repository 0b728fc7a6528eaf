"""The connections to all nodes of a site: opened in parallel, locked together, and closed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from .errors import InputError
from .inventory import Node, Ssh
from .transport import TURN, NodeConnection

OPENED_AT_ONCE = 16
"""Maximum connections opened in parallel: limited by memory and by a jump host's sshd."""
ANSWERS_TOGETHER = 2.0
"""After one node has refused, seconds to wait for refusals of other nodes."""


class NodeConnections:
    """The connections of a site, opened once, in parallel."""

    def __init__(self, ssh: Ssh, nodes: Iterable[Node]) -> None:
        self.when_lost: Callable[[str], None] = lambda node: None
        """Called with each node whose connection is lost, even while it is idle."""
        self._ssh = ssh
        self._nodes = list(nodes)
        self._open: dict[str, NodeConnection] = {}

    def __getitem__(self, name: str) -> NodeConnection:
        return self._open[name]

    def names(self) -> list[str]:
        """The connected nodes."""
        return sorted(self._open)

    def open(self) -> None:
        """Connect to every unconnected node, including lost ones that may be back.

        :raises InputError: naming every node that cannot be used
        """
        errors: list[str] = []

        def connect(node: Node) -> None:
            try:
                if node.name in self._open:
                    self._open[node.name].wake()
                else:
                    self._open[node.name] = NodeConnection(node, self._ssh, when_lost=lambda: self.when_lost(node.name))
            except InputError as error:
                errors.append(str(error))

        with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
            list(pool.map(connect, self._nodes))
        if errors:
            self.close()
            raise InputError("\n".join(sorted(errors)))

    def hold(self, holder: str, say: Callable[[str, str], None]) -> None:
        """Lock all nodes for this deployment.

        :param holder: the deployer, shown to others
        :param say: called with a node and its current holder while waiting
        :raises InputError: naming every node with another deployment, as far as they answer within seconds, or
            a node that was lost meanwhile
        """

        def work(name: str) -> str:
            try:
                self[name].hold(holder, lambda text: say(name, text))
            except InputError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(len(self._open) or 1) as pool:
            asked = waited_for = {pool.submit(work, name) for name in self.names()}
            while waited_for:
                known, waited_for = wait(waited_for, timeout=TURN, return_when=FIRST_COMPLETED)
                lost = [f"node {name}: {self[name].loss()}" for name in self.names() if self[name].is_lost]
                if lost or any(each.result() for each in known):
                    # The others may wait long and in vain.
                    known, _ = wait(asked, timeout=ANSWERS_TOGETHER)
                    self.close()
                    refused = [each.result() for each in known if each.result()]
                    raise InputError("\n".join(sorted(refused or lost)))

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

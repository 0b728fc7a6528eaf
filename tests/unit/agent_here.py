"""The node agent in a separate interpreter on this machine, over the usual connection, but without ssh."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from stackspec.inventory import Node, ProviderAttachment, Ssh
from stackspec.resources.base import Query, run
from stackspec.transport import NodeConnection


def make_node(name: str = "here") -> Node:
    """A node at an address that nobody has."""
    provider = ProviderAttachment(address=IPv4Address("192.0.2.1"), interface="eth0")
    return Node(name=name, roles=("controller",), management=provider, provider=provider)


def connect(name: str = "here") -> NodeConnection:
    """A connection to an agent on this machine."""
    return NodeConnection(make_node(name), Ssh(), spec="popen")


@pytest.fixture
def connection() -> Iterator[NodeConnection]:
    """A connection to the agent on this machine."""
    made = connect()
    yield made
    made.close()


def ask(connection: NodeConnection, query: Query) -> Any:
    """The answer to one query."""
    return connection.facts([query])[query]


def pid_of(connection: NodeConnection) -> int:
    """The agent's process."""
    return int(ask(connection, run("sh", "-c", "echo $PPID"))["out"])

"""Node names as the nodes know them, for this process: URLs of the catalog name the controller."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from .site import Site

_known: dict[str, str] = {}
_original: Callable[..., Any] = socket.getaddrinfo


def _getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    return _original(_known.get(name, host), *args, **kwargs)


def learn_names(site: Site) -> None:
    """Let this process resolve the names of the site's nodes to their management addresses, as /etc/hosts does there.

    The controlling machine need not be edited. What was learned first stays: a run within a run, as the suite's own
    tests make them, does not lead the outer one to another machine.
    """
    for node in site.nodes.values():
        _known.setdefault(node.name, node.address)
    socket.getaddrinfo = _getaddrinfo

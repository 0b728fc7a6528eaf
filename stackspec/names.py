"""Resolves the names of the site's nodes in this process: catalog URLs contain the controller's name."""

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

    Nothing is edited on the controlling machine. The first mapping wins: a nested run, as in the suite's own tests,
    must not redirect the outer one to another machine.
    """
    for node in site.nodes.values():
        _known.setdefault(node.name, node.address)
    socket.getaddrinfo = _getaddrinfo

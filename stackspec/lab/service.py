"""The package proxy as a process of the lab: started, found again, and replaced if its settings change."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from . import cgroup, network
from .error import LabError, run
from .identity import PROXY_PORT
from .mirror import Mirror
from .proxy import Settings, serving
from .spec import LabSpec
from .state import Folder


def alive(group: Path) -> bool:
    """Whether the proxy of the lab with that control group runs."""
    return bool(cgroup.members(group / "proxy"))


def ensure(spec: LabSpec, folder: Folder, group: Path, cache: Path, mirror: Mirror) -> None:
    """Start the proxy unless it is running with these settings.

    :param group: the lab's control group
    :param cache: the lab's cache directory
    :param mirror: the allowed archives
    :raises LabError: when it does not listen within ten seconds
    """
    chosen = replace(
        settings(cache, mirror, folder.record),
        listen=str(spec.management.address.ip),
        port=PROXY_PORT,
        namespace=str(network.NAMESPACES / network.namespace(spec)),
        quiet=False,
    )
    path, log = folder.root / "proxy.json", folder.root / "proxy.log"
    text = chosen.dump()
    if alive(group) and path.exists() and path.read_text() == text:
        return
    cgroup.kill(group / "proxy")
    path.write_text(text)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", "import sys; from stackspec.lab import proxy; proxy.main(sys.argv[1])", str(path)]
    if _is_inside(spec):
        # Its connections must start in the host's own network namespace.
        command = ["nsenter", "--net=/proc/1/ns/net", *command]
    cgroup.spawn(group / "proxy", command, log, env)
    _wait_listening(spec, log)


def settings(cache: Path, mirror: Mirror, record: Path | None = None) -> Settings:
    """Settings of a proxy for this machine itself, on a free port of the loopback.

    :param cache: the lab's cache directory
    :param mirror: the allowed archives
    :param record: the file for the addresses of served packages
    """
    return Settings(
        listen="127.0.0.1",
        port=0,
        hosts=mirror.hosts(),
        cache=str(cache / "packages"),
        parents=_parents(),
        folders=mirror.folders(),
        record=str(record or ""),
        quiet=True,
    )


def record_of(cache: Path, made: str) -> Path:
    """The record of the packages that a kernel or an image was made from.

    :param cache: the lab's cache directory
    :param made: its name in the cache
    """
    return cache / "records" / made


@contextmanager
def for_build(cache: Path, mirror: Mirror | None, made: str = "") -> Iterator[list[str]]:
    """A proxy on the loopback while the lab makes something of packages on this machine: they are cached, or local.

    :param cache: the lab's cache directory
    :param mirror: the allowed archives, None: mmdebstrap's own choice, without a proxy
    :param made: name of the record of packages, empty for none
    :returns: the words before a command that make its apt use the proxy
    """
    if mirror is None:
        yield []
        return
    with serving(settings(cache, mirror, record_of(cache, made) if made else None)) as server:
        yield ["env", "no_proxy=", f"http_proxy=http://127.0.0.1:{server.server_port}"]


def _wait_listening(spec: LabSpec, log: Path) -> None:
    def listens() -> bool:
        try:
            socket.create_connection((str(spec.management.address.ip), PROXY_PORT), timeout=1).close()
        except OSError:
            return False
        return True

    end = time.monotonic() + 10
    while not network.inside(network.NAMESPACES / network.namespace(spec), listens):
        if time.monotonic() > end:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise LabError(f"The lab's package proxy failed to start. The end of {log}:\n{tail}")
        time.sleep(0.03)


def _is_inside(spec: LabSpec) -> bool:
    lab = network.NAMESPACES / network.namespace(spec)
    return os.path.samefile("/proc/self/ns/net", lab)


def _parents() -> dict[str, str]:
    """The proxies of the host's own apt, by scheme."""
    found = {}
    for scheme in ("http", "https"):
        out = (
            run(["apt-config", "shell", "P", f"Acquire::{scheme}::Proxy"], "read apt's settings", check=False)
            if (Path("/usr/bin/apt-config").exists())
            else ""
        )
        uri = out.strip().removeprefix("P=").strip("'") or os.environ.get(f"{scheme}_proxy", "")
        if uri and uri != "DIRECT":
            found[scheme] = uri
    return found

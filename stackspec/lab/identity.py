"""The node-specific files on top of the shared root file system: name, addresses, keys, package sources."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from .error import run
from .mirror import Mirror
from .spec import LabSpec, Node

PROXY_PORT = 3142


def make_keys(spec: LabSpec, folder: Path) -> None:
    """Create the lab's user key, a host key per node, and the list of known hosts; existing keys are kept.

    :param folder: the lab's own ssh directory
    :raises LabError: when ssh-keygen fails
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_key(folder / "id_ed25519", spec.prefix)
    known = []
    for node in spec.nodes:
        key = folder / f"host_{node.name}"
        _make_key(key, node.name)
        public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        known.append(f"{node.name},{node.management.address} {public}\n")
    (folder / "known_hosts").write_text("".join(known))
    (folder / "config").write_text(render_ssh_config(spec, folder))


def render_ssh_config(spec: LabSpec, folder: Path) -> str:
    """An OpenSSH client configuration with the nodes' names and addresses, independent of the user's files.

    Connections from outside the lab's network namespace enter it.
    """
    dial = f"{sys.executable} -I {Path(__file__).with_name('dial.py')} %h %p"
    names = [f"{node.name} {node.management.address}" for node in spec.nodes]
    hosts = [f"Host {name}\n  HostName {name.split()[1]}\n" for name in names]
    everyone = " ".join(names)
    return (
        "".join(hosts)
        + f"""\
Match originalhost {everyone.replace(" ", ",")} exec "test ! /proc/self/ns/net -ef /run/netns/{spec.prefix}"
  ProxyCommand nsenter --net=/run/netns/{spec.prefix} {dial}
  ProxyUseFdpass yes
Host {everyone}
  User root
  IdentityFile {folder / "id_ed25519"}
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder / "known_hosts"}
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  UpdateHostKeys no
  LogLevel ERROR
"""
    )


def render_files(spec: LabSpec, node: Node, mirror: Mirror) -> dict[str, str]:
    """The node-specific text files of a bare node, by path."""
    gateway = spec.management.address.ip
    files = {
        "etc/hostname": f"{node.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{node.management.address} {node.name}\n",
        # Stable over power cycles, and unique to each lab.
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/apt/sources.list": "\n".join(mirror.lines(plain=True)) + "\n",
        "etc/apt/apt.conf.d/90lab": (
            f'Acquire::http::Proxy "http://{gateway}:{PROXY_PORT}";\nAcquire::Retries "3";\n'
            'DPkg::Lock::Timeout "120";\n'
        ),
    }
    for port in node.ports:
        text = f"[Match]\nName={port.interface}\n\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        network = spec.network(port.network)
        if port is not node.management:
            text = text.replace("[Network]", "[Link]\nRequiredForOnline=no\n\n[Network]")
        # Others are only up: the deployment sets their addresses.
        if port in (node.management, node.way_out):
            text += f"Address={port.address}/{network.cidr.prefixlen}\n"
        if port is node.way_out:
            text += f"Gateway={network.address.ip}\n"
        files[f"etc/systemd/network/50-{port.interface}.network"] = text
    return files


def make_upper(
    spec: LabSpec, node: Node, mirror: Mirror, keys: Path, upper: Path, more: Mapping[str, str] | None = None
) -> None:
    """Create the writable layer of a bare node.

    :param keys: the lab's ssh directory
    :param upper: the layer's directory, which appears complete or not at all
    :param more: further text files, by path
    """
    new = upper.with_name(f"{upper.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    for name, text in {**render_files(spec, node, mirror), **(more or {})}.items():
        _write(new / name, text, 0o644)
    _write(new / "root/.ssh/authorized_keys", (keys / "id_ed25519.pub").read_text(), 0o600)
    host_key = keys / f"host_{node.name}"
    _write(new / "etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
    _write(new / "etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text(), 0o644)
    # Directories here hide the modes from the root file system.
    for folder in (new / "root", new / "root/.ssh"):
        folder.chmod(0o700)
    new.rename(upper)


def _make_key(path: Path, comment: str) -> None:
    if path.exists():
        return
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", temporary],
        f"make the ssh key {path.name}",
    )
    # The private key last: its presence means that the pair exists.
    temporary.with_name(f"{temporary.name}.pub").rename(path.with_suffix(".pub"))
    temporary.rename(path)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_text(text)
    os.chmod(path, mode)

"""Logins over ssh: their options, which are tried again, and what is said about a node without one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stackspec import transport
from stackspec.errors import InputError
from stackspec.inventory import Ssh
from stackspec.node_connections import NodeConnections
from stackspec.resources.base import run
from stackspec.transport import NodeConnection, ssh_arguments

from .agent_here import ask, make_node


def fake_ssh(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake ssh that runs `script`."""
    ssh = folder / "ssh"
    ssh.write_text(f"#!/bin/sh\n{script}\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_hanging_login_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both before the remote shell answers, and when the interpreter should start."""
    monkeypatch.setattr(transport, "OPEN_TIMEOUT", 1)
    fake_ssh(tmp_path, "exec sleep 30", monkeypatch)
    with pytest.raises(InputError, match=r"node here \(192.0.2.1\): ssh or the login shell did not respond within 1 s"):
        NodeConnection(make_node(), Ssh())
    fake_ssh(tmp_path, 'case "$*" in *sudo*) echo root; echo /usr/bin/python3;; *) exec sleep 10;; esac', monkeypatch)
    with pytest.raises(InputError, match="node here: python3 did not start within 1 s after the login"):
        NodeConnection(make_node(), Ssh())


def test_connection_that_ends_at_the_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that loses its power between the login and the start of the interpreter."""
    fake_ssh(tmp_path, 'case "$*" in *sudo*) echo root; echo /usr/bin/python3;; *) exit 255;; esac', monkeypatch)
    ended = r"node here \(192.0.2.1\): not reachable by ssh: the connection ended before python3 had started"
    with pytest.raises(InputError, match=ended):
        NodeConnection(make_node(), Ssh())


def test_dropped_login_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd drops logins when too many arrive at once; a refused key is not retried."""
    count = f"echo >> {tmp_path}/count; "
    dropped = "echo kex_exchange_identification: Connection closed by remote host >&2; exit 255"
    fake_ssh(tmp_path, f"{count}test $(wc -l < {tmp_path}/count) -gt 1 || {{ {dropped}; }}; echo root", monkeypatch)
    with pytest.raises(InputError, match="no python3"):
        NodeConnection(make_node(), Ssh())
    assert (tmp_path / "count").read_text() == "\n\n"
    fake_ssh(tmp_path, f"{count}echo 'Permission denied (publickey)' >&2; exit 255", monkeypatch)
    with pytest.raises(InputError, match="Permission denied"):
        NodeConnection(make_node(), Ssh())
    assert (tmp_path / "count").read_text() == "\n\n\n"


def test_ssh_gets_exactly_the_options_of_the_inventory(tmp_path: Path) -> None:
    node = make_node()
    assert ssh_arguments(Ssh(), node)[-1] == "192.0.2.1"
    assert not {"-F", "-i", "-p"} & set(ssh_arguments(Ssh(), node))
    ssh = Ssh(user="admin", port=2222, key=tmp_path / "key", config=tmp_path / "config")
    arguments = ssh_arguments(ssh, node.model_copy(update={"ssh_host": "jump-to-it"}))
    assert arguments[-7:] == ["-F", f"{tmp_path}/config", "-i", f"{tmp_path}/key", "-p", "2222", "admin@jump-to-it"]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo connect to host: no route >&2; exit 255", "not reachable by ssh: connect to host: no route; try: ssh"),
        (
            "echo sudo: a password is required >&2; echo /usr/bin/python3",
            "no passwordless sudo: sudo:",
        ),
        ("echo root", "no python3 on the node; install it"),
    ],
)
def test_every_unusable_node_is_named(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ssh(tmp_path, script, monkeypatch)
    connections = NodeConnections(Ssh(), [make_node("one"), make_node("two")])
    with pytest.raises(InputError) as caught:
        connections.open()
    first, second = str(caught.value).splitlines()
    assert first.startswith("node one (192.0.2.1): ")
    assert second.startswith("node two (192.0.2.1): ")
    assert message in first


def test_ssh_key_with_a_space_in_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of ssh gets the path as one argument."""
    seen = tmp_path / "seen"
    note = f"for each; do case $each in *' key') echo \"$each\" >>{seen};; esac; last=$each; done"
    fake_ssh(tmp_path, f'{note}\nexec sh -c "$last"', monkeypatch)
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    sudo.chmod(0o755)
    made = NodeConnection(make_node(), Ssh(key=tmp_path / "my key"))
    assert ask(made, run("echo", "here"))["out"] == "here\n"
    made.close()
    assert seen.read_text().splitlines() == [f"{tmp_path}/my key"] * 2

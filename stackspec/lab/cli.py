"""`stackspec lab`: the lab's commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..site import default_inventory
from .lab import Lab
from .mirror import Mirror
from .spec import load

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command `lab` to a command line.

    Every command sets `func`, which takes the parsed arguments and returns the exit status.
    """
    parser = subparsers.add_parser("lab", help="the embedded lab: three bare nodes on this machine")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, call: Callable[[Lab, argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument("--inventory", type=Path, default=default_inventory(), help="default: %(default)s")
        sub.add_argument("--name", help="another name for the lab, to run two side by side")
        sub.set_defaults(func=lambda arguments: call(Lab(load(arguments.inventory, arguments.name)), arguments))
        return sub

    command("up", _up, "start the lab, or its missing nodes")
    down = command("down", _down, "remove the lab; snapshots and cached files stay")
    down.add_argument("--all", action="store_true", help="remove its snapshots too, and the cache of the last lab")
    command("status", _status, "show the nodes")
    shell = command("shell", _shell, "a shell, or a command, on a node")
    shell.add_argument("node")
    shell.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    for name, call, text in (
        ("snapshot", _snapshot, "save the state of all nodes under a name"),
        ("restore", _restore, "boot all nodes from a snapshot"),
    ):
        command(name, call, text).add_argument("snapshot", metavar="NAME")
    mirror = command("mirror", _mirror, "copy the packages of this lab into a directory that is a Debian archive")
    mirror.add_argument("directory", type=Path, help="empty, or an existing mirror, which is brought up to date")


def _say(line: str) -> None:
    print(line, flush=True)


def _up(lab: Lab, arguments: argparse.Namespace) -> int:
    lab.up(_say)
    _say(f"ssh -F {lab.ssh_config} {lab.spec.nodes[0].name}")
    return 0


def _down(lab: Lab, arguments: argparse.Namespace) -> int:
    lab.down(arguments.all)
    return 0


def _status(lab: Lab, arguments: argparse.Namespace) -> int:
    rows = lab.status()
    width = max(len(row.name) for row in rows)
    for row in rows:
        line = f"{row.name:{width}}  {row.address:15}  {row.state:8}"
        if row.pid:
            line += f"  pid {row.pid}  {row.memory} MiB  up {row.uptime:.0f} s"
        _say(line.rstrip())
    return 0 if all(row.state == "running" for row in rows) else 1


def _shell(lab: Lab, arguments: argparse.Namespace) -> int:
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    return lab.shell(arguments.node, words)


def _snapshot(lab: Lab, arguments: argparse.Namespace) -> int:
    lab.snapshot(arguments.snapshot, _say)
    return 0


def _restore(lab: Lab, arguments: argparse.Namespace) -> int:
    lab.restore(arguments.snapshot, _say)
    return 0


def _mirror(lab: Lab, arguments: argparse.Namespace) -> int:
    folder = arguments.directory.absolute()
    done = lab.mirror(folder, _say)
    changes = f"{done.written} new, {done.removed} removed" if done.written or done.removed else "no changes"
    _say(f"a lab uses it with `mirror: {folder}/debian` in the inventory's section `lab`, or $STACKSPEC_MIRROR")
    _say("your own nodes: serve the directory with any web server; in /etc/apt/sources.list:")
    security = "http://SERVER/debian-security" if (folder / "debian-security").is_dir() else None
    served = Mirror("http://SERVER/debian", security, lab.spec.suite)
    for uri, suite in served.suites():
        _say(f"  {served.line(uri, suite, stale=True)}")
    _say(f"{folder}: {done.files} files, {done.size / 1e6:.0f} MB, {changes}")
    return 0

"""The disks of nodes: sparse files that a node sees as block devices under the names that the inventory gives them."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.error import run
from lab.spec import LabSpec, Node

SIZE = 2 << 30  # bytes; room for what tests store, and a file takes only what is written to it


def make(spec: LabSpec, node: Node, folder: Path) -> None:
    """Make the disks of a node that are not there; those that are keep what they hold.

    The files are called after lab, node and device, so that the machine's list of loop devices says whose they are.

    :param folder: the node's directory of disks
    """
    for device in node.disks:
        file = folder / f"{spec.prefix}-{node.name}.{device}"
        if not file.exists():
            folder.mkdir(exist_ok=True)
            with file.open("xb") as out:
                out.truncate(SIZE)


def copy(source: Path, target: Path) -> None:
    """Make `target` the copy of a directory of disks; holes stay holes. A copy that was killed is begun anew.

    :param source: the directory; when there is none, `target` will not be there either
    """
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    if source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        run(["cp", "--archive", "--sparse=always", "--reflink=auto", source, new], f"copy the disks in {source}")
    shutil.rmtree(target, ignore_errors=True)
    if new.is_dir():
        new.rename(target)

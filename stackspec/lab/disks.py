"""The disks of nodes: sparse files that a node sees as block devices under the names that the inventory gives them."""

from __future__ import annotations

import shutil
from pathlib import Path

from .error import run
from .spec import Disk, LabSpec, Node


def file_of(spec: LabSpec, node: Node, disk: Disk, folder: Path) -> Path:
    """The file of a disk, called after lab, node and device: the machine's list of loop devices says whose it is.

    :param folder: the node's directory of disks
    """
    return folder / f"{spec.prefix}-{node.name}.{disk.device}"


def make(spec: LabSpec, node: Node, folder: Path) -> None:
    """Make the disks of a node that are not there; those that are keep what they hold.

    :param folder: the node's directory of disks
    """
    for disk in node.disks:
        file = file_of(spec, node, disk, folder)
        if not file.exists():
            folder.mkdir(exist_ok=True)
            with file.open("xb") as out:
                # A file takes only what is written to it.
                out.truncate(disk.size)


def copy_file(source: Path, target: Path) -> None:
    """Make `target` the copy of a disk; holes stay holes. A copy that was killed is begun anew."""
    new = target.with_name(f"{target.name}.new")
    run(["cp", "--sparse=always", "--reflink=auto", source, new], f"copy the disk {source}", timeout=300)
    new.rename(target)


def copy(source: Path, target: Path) -> None:
    """Make `target` the copy of a directory of disks; holes stay holes. A copy that was killed is begun anew.

    :param source: the directory; when there is none, `target` will not be there either
    """
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    if source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        run(
            ["cp", "--archive", "--sparse=always", "--reflink=auto", source, new],
            f"copy the disks in {source}",
            timeout=300,
        )
    shutil.rmtree(target, ignore_errors=True)
    if new.is_dir():
        new.rename(target)

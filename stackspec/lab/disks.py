"""The disks of nodes: sparse files that a node sees as block devices, named as in the inventory."""

from __future__ import annotations

import shutil
from pathlib import Path

from .error import run
from .spec import Disk, LabSpec, Node


def file_of(spec: LabSpec, node: Node, disk: Disk, folder: Path) -> Path:
    """The file of a disk, named after lab, node and device, which identifies it in the host's list of loop devices.

    :param folder: the node's directory of disks
    """
    return folder / f"{spec.prefix}-{node.name}.{disk.device}"


def make(spec: LabSpec, node: Node, folder: Path) -> None:
    """Create the missing disks of a node; existing ones keep their content.

    :param folder: the node's directory of disks
    """
    for disk in node.disks:
        file = file_of(spec, node, disk, folder)
        if not file.exists():
            folder.mkdir(exist_ok=True)
            with file.open("xb") as out:
                # Sparse: only written blocks use space.
                out.truncate(disk.size)


def copy_file(source: Path, target: Path) -> None:
    """Make `target` a sparse copy of a disk. A killed copy is started again."""
    new = target.with_name(f"{target.name}.new")
    run(["cp", "--sparse=always", "--reflink=auto", source, new], f"copy the disk {source}", timeout=300)
    new.rename(target)


def copy(source: Path, target: Path) -> None:
    """Make `target` a sparse copy of a directory of disks. A killed copy is started again.

    :param source: the directory; if it does not exist, `target` will not exist either
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

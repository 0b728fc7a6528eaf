"""Snapshots: a node's writable layer becomes a read-only one by a rename, and an empty one goes on top.

Disks are not layers, so they are copied: only written blocks, or none if the file system supports reflinks.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from . import disks, rootfs
from .error import LabError
from .spec import LabSpec
from .state import Folder, Snapshot, State


def check_new(folder: Folder, name: str) -> None:
    """Check that a snapshot name is valid and free.

    :raises InputError: the name is invalid or taken
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}", name):
        raise InputError(f"{name!r} is not a valid snapshot name: use up to 31 letters, digits and dashes")
    if (folder.snapshots / name).exists():
        raise InputError(
            f"The snapshot {name!r} already exists. Choose another name, or remove all: stackspec lab down --all"
        )


def check_usable(folder: Folder, spec: LabSpec, snapshot: Snapshot, cache: Path) -> None:
    """Check that all parts of a snapshot exist.

    :param cache: the lab's cache directory
    :raises LabError: naming what is gone
    """
    if not rootfs.path_of(cache, snapshot.rootfs).is_dir():
        raise LabError(
            f"The snapshot {snapshot.name!r} needs the root file system {snapshot.rootfs}, which is gone from "
            f"{cache}. It is unusable. Remove it: stackspec lab down --all"
        )
    for layer in snapshot.layers:
        for node in spec.nodes:
            if not folder.layer(layer, node.name).is_dir():
                raise LabError(f"The snapshot {snapshot.name!r} has no layer {layer!r} of the node {node.name}")


def finish(folder: Folder, spec: LabSpec, state: State, halt: Callable[[], None]) -> State:
    """Finish an interrupted snapshot or restore; each step may have been done before the kill.

    :param folder: the lab's directories
    :param state: the lab's state
    :param halt: stops all nodes; called before layers are changed
    :returns: the state, with no change in progress
    """
    if state.saving:
        halt()
        return _finish_saving(folder, spec, state)
    if state.restoring:
        halt()
        return _finish_restoring(folder, spec, state)
    return state


def _finish_saving(folder: Folder, spec: LabSpec, state: State) -> State:
    name = state.saving
    for node in spec.nodes:
        layer = folder.layer(name, node.name)
        if not folder.kept_disks(name, node.name).exists():
            disks.copy(folder.disks(node.name), folder.kept_disks(name, node.name))
        if not layer.exists():
            layer.parent.mkdir(parents=True, exist_ok=True)
            folder.upper(node.name).rename(layer)
        folder.upper(node.name).mkdir(exist_ok=True)
    # Nodes run without fsync, but a snapshot must survive a power loss of the host.
    os.sync()
    after = state.saved(name)
    folder.write_snapshot(Snapshot(name, state.rootfs, after.layers))
    return folder.write(after)


def _finish_restoring(folder: Folder, spec: LabSpec, state: State) -> State:
    snapshot = folder.snapshot(state.restoring)
    folder.trash.mkdir(parents=True, exist_ok=True)
    for node in spec.nodes:
        upper = folder.upper(node.name)
        if upper.exists():
            upper.rename(folder.trash / uuid.uuid4().hex)
        # The node may not exist yet.
        upper.mkdir(parents=True)
        shutil.rmtree(upper.with_name("upper.new"), ignore_errors=True)
        disks.copy(folder.kept_disks(snapshot.name, node.name), folder.disks(node.name))
    return folder.write(state.restored(snapshot))

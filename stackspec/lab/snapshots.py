"""Snapshots: a node's writable layer becomes a read-only one by a rename, and an empty one goes on top.

Disks are no layers, so they are copied: the blocks that were written, or none where the file system shares them.
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
    """Check that a name can be given to a snapshot.

    :raises InputError: when it is no name, or taken
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}", name):
        raise InputError(f"{name!r} is no name for a snapshot: letters, digits and dashes, up to 31")
    if (folder.snapshots / name).exists():
        raise InputError(
            f"There is a snapshot {name!r} already. Take another name, or remove all: stackspec lab down --all"
        )


def check_usable(folder: Folder, spec: LabSpec, snapshot: Snapshot, cache: Path) -> None:
    """Check that everything which a snapshot stands on is there.

    :param cache: the lab's cache directory
    :raises LabError: naming what is gone
    """
    if not rootfs.path_of(cache, snapshot.rootfs).is_dir():
        raise LabError(
            f"The snapshot {snapshot.name!r} stands on the root file system {snapshot.rootfs}, which is gone from "
            f"{cache}. It cannot be used any more. Remove it: stackspec lab down --all"
        )
    for layer in snapshot.layers:
        for node in spec.nodes:
            if not folder.layer(layer, node.name).is_dir():
                raise LabError(f"The snapshot {snapshot.name!r} has no layer {layer!r} of the node {node.name}")


def finish(folder: Folder, spec: LabSpec, state: State, halt: Callable[[], None]) -> State:
    """Carry a snapshot or a restore that was begun to its end; each step may have been done before a kill.

    :param folder: the lab's directories
    :param state: where it stands
    :param halt: called before layers are touched, must leave no node running
    :returns: the state, with nothing under way
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
    # Nodes run without fsync; a snapshot is to survive the machine's power cut.
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
        # The node may be one that a bare lab has not made yet.
        upper.mkdir(parents=True)
        shutil.rmtree(upper.with_name("upper.new"), ignore_errors=True)
        disks.copy(folder.kept_disks(snapshot.name, node.name), folder.disks(node.name))
    return folder.write(state.restored(snapshot))

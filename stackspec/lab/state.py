"""A lab's persistent state: the layers of its nodes, and a change in progress."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from .error import LabError
from .lock import locked


@dataclass(frozen=True)
class Snapshot:
    """A named state of all nodes: layers over a root file system, oldest first, its own the last."""

    name: str
    rootfs: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """The state of a lab.

    `saving` or `restoring` names the snapshot of an unfinished change: the next command finishes it; each step can be
    repeated. `boot` is the host's boot id when the nodes last started.
    """

    rootfs: str = ""
    layers: tuple[str, ...] = ()
    saving: str = ""
    restoring: str = ""
    boot: str = ""

    def saved(self, name: str) -> State:
        """The state after the nodes' writable layers have become the layer `name`."""
        return replace(self, layers=(*self.layers, name), saving="")

    def restored(self, snapshot: Snapshot) -> State:
        """The state with the nodes on a snapshot, with empty writable layers."""
        return replace(self, rootfs=snapshot.rootfs, layers=snapshot.layers, restoring="", saving="")


@dataclass(frozen=True)
class Folder:
    """The directories and files of a lab below its state directory."""

    root: Path

    @property
    def nodes(self) -> Path:
        return self.root / "nodes"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def trash(self) -> Path:
        return self.root / "trash"

    @property
    def ssh(self) -> Path:
        return self.root / "ssh"

    @property
    def record(self) -> Path:
        """The packages that the proxy served to the nodes, an address a line."""
        return self.root / "packages"

    def node(self, node: str) -> Path:
        return self.nodes / node

    def upper(self, node: str) -> Path:
        """The writable layer of a node."""
        return self.nodes / node / "upper"

    def disks(self, node: str) -> Path:
        """The disks of a node."""
        return self.nodes / node / "disks"

    def kept_disks(self, snapshot: str, node: str) -> Path:
        """The disks of a node in a snapshot; node names contain no dot."""
        return self.snapshots / snapshot / f"{node}.disks"

    def layer(self, snapshot: str, node: str) -> Path:
        """The read-only layer of a node in a snapshot."""
        return self.snapshots / snapshot / node

    def lower(self, state: State, node: str, rootfs: Path) -> list[Path]:
        """The layers of a node, newest first."""
        return [*(self.layer(name, node) for name in reversed(state.layers)), rootfs]

    def read(self) -> State:
        """The lab's state; empty if the lab does not exist.

        :raises LabError: the file is invalid
        """
        data = _read(self.root / "state.json")
        data["layers"] = tuple(data.get("layers", ()))
        try:
            return State(**data)
        except TypeError as error:
            raise LabError(
                f"{self.root}/state.json is of another version ({error}). Run: stackspec lab down"
            ) from error

    def write(self, state: State) -> State:
        """Write the state atomically."""
        _write(self.root / "state.json", asdict(state))
        return state

    def snapshot(self, name: str) -> Snapshot:
        """A complete snapshot.

        :raises InputError: naming the existing snapshots
        """
        data = _read(self.snapshots / name / "snapshot.json")
        if not data:
            there = ", ".join(self.snapshot_names()) or "none"
            raise InputError(f"The lab has no snapshot {name!r} (existing: {there})")
        return Snapshot(data["name"], data["rootfs"], tuple(data["layers"]))

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """Declare a snapshot complete."""
        _write(self.snapshots / snapshot.name / "snapshot.json", asdict(snapshot))

    def snapshot_names(self) -> list[str]:
        """Names of the complete snapshots."""
        return sorted(path.parent.name for path in self.snapshots.glob("*/snapshot.json"))

    def locked(self) -> AbstractContextManager[None]:
        """Let one process at a time change the lab; others wait.

        The lock is next to the lab's directory, which `down` removes.
        """
        return locked(self.root.with_name(f"{self.root.name}.lock"))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LabError(f"Cannot read {path}: {error}. Run: stackspec lab down") from error
    return dict(data)


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w") as out:
        json.dump(data, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(path)

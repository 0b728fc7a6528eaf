"""A node with its own kernel: User-Mode Linux, a process on the host that needs no hypervisor.

It has features that the host's kernel may lack, such as device-mapper and iSCSI, and one slow processor: a system call
takes more than ten times as long as in a container. Outside the lab's code it is a node like any other.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from . import cgroup, disks, identity, kernel, network
from .error import LabError, require, run
from .mirror import Mirror
from .node import NodeProcess
from .py3compile_noted import SHARED
from .spec import Disk

_BOOT = Path(__file__).with_name("uml.sh")
IMAGE = "root.img"
"""Its root file system, corresponding to a container's writable layer."""
KERNEL = "kernel"
"""File with the name of the kernel whose modules are in the image."""
SIZE = 24 << 30  # bytes; a sparse file
# No barriers: the file is in the host's page cache, so only a crash of the host can corrupt it.
_OWN_CLOCK = """\
# The clock of this kernel stops while the host is suspended, and does not follow when the host's clock is set. Other
# nodes use the host's clock, which chrony must not change there.
[Service]
ExecStart=
ExecStart=!/usr/sbin/chronyd -F 1
"""
_FSTAB = f"""\
/dev/ubda / ext4 noatime,barrier=0 0 1
none {SHARED} hostfs hostfs=/dev/compiled,nofail 0 0
"""
# Imports are most of the time of an OpenStack root command: those of a resolver, since a lab has no name servers, and
# what the module there leaves out.
_FEWER_IMPORTS = {
    "etc/systemd/system.conf.d/lab.conf": (
        f"[Manager]\nDefaultEnvironment=EVENTLET_NO_GREENDNS=yes PYTHONPATH=/{kernel.PYTHON}\n"
    ),
    "etc/sudoers.d/lab": 'Defaults env_keep += "EVENTLET_NO_GREENDNS PYTHONPATH"\n',
}
_MAGIC, _VERSION, _LONGEST = 0xCAFEBABE, 2, 512


class UserModeLinux(NodeProcess):
    """A node that boots from a disk image."""

    # Includes shutting down its guests, one after the other.
    stops_within = 240.0

    def make(self, upper: Path, mirror: Mirror, keys: Path, rootfs: Path, say: Callable[[str], None]) -> None:
        """Create its image from the shared root file system, its kernel's modules, and its own files."""
        require("mke2fs")
        tree = kernel.ensure(self.cache, mirror, say)
        own = upper.with_name("own")
        shutil.rmtree(own, ignore_errors=True)
        identity.make_upper(self.spec, self.node, mirror, keys, own, self.files())
        # The only power button of its kernel is the console's Ctrl-Alt-Del.
        button = own / "etc/systemd/system/ctrl-alt-del.target"
        button.parent.mkdir(parents=True, exist_ok=True)
        button.symlink_to("/usr/lib/systemd/system/poweroff.target")
        new = upper.with_name(f"{upper.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        merged = upper.with_name("merged")
        merged.mkdir(exist_ok=True)
        with (new / IMAGE).open("wb") as out:
            out.truncate(SIZE)
        (new / KERNEL).write_text(tree.name)
        lower = f"{own}:{tree / kernel.MODULES}:{rootfs}"
        script = 'mount -t overlay overlay -o "lowerdir=$1" "$2" && exec mke2fs -q -F -t ext4 -E "$3" -d "$2" "$4"'
        options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard"
        guard = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        run([*guard, lower, merged, options, new / IMAGE], f"make the disk of {self.node.name}", timeout=300)
        shutil.rmtree(own)
        merged.rmdir()
        new.rename(upper)

    def files(self) -> dict[str, str]:
        """Text files that a container does not need, by path."""
        files = {"etc/fstab": _FSTAB, "etc/ld.so.preload": f"/{kernel.LIBRARY}\n", **_FEWER_IMPORTS}
        files["etc/systemd/system/chrony.service.d/lab.conf"] = _OWN_CLOCK
        for index, port in enumerate(self.node.ports):
            # The kernel names its interfaces vec0, vec1.
            name = f"etc/systemd/network/10-{port.interface}.link"
            files[name] = f"[Match]\nMACAddress={self._mac(index)}\n\n[Link]\nName={port.interface}\n"
        return files

    def _mac(self, port: int) -> str:
        """Derived from the address, since bridges of two labs never meet."""
        octets = self.node.ports[port].address.packed
        return "52:54:" + ":".join(f"{octet:02x}" for octet in octets)

    def boot(self, layers: Sequence[Path]) -> None:
        """Start its kernel on its image; after a restore, on a copy of the snapshot's image."""
        upper = self.folder / "upper"
        if not (upper / IMAGE).exists():
            for name in (KERNEL, IMAGE):
                if not (layers[0] / name).exists():
                    raise LabError(
                        f"The snapshot {layers[0].parent.name} has no disk of {self.node.name}, which was no "
                        "UML node when it was taken. Remove all snapshots: stackspec lab down --all"
                    )
                disks.copy_file(layers[0] / name, upper / name)
        tree = kernel.path_of(self.cache, (upper / KERNEL).read_text())
        if not tree.is_dir():
            # Its modules are in the image.
            raise LabError(
                f"The kernel {tree.name} of {self.node.name} is gone from {self.cache}. "
                "Run: stackspec lab down; stackspec lab up"
            )
        taps = network.make_taps(self.spec, self.node)
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "GROUP": str(self.group),
            "NETNS": str(network.NAMESPACES / network.namespace(self.spec)),
            "NODE": str(self.folder),
            "TREE": str(tree),
            "MEMORY": str(self.node.memory),
            "COMPILED": str(self.compiled()),
            "CPU": str(self._processor()),
        }
        cgroup.spawn(self.group.with_name("helpers"), ["sh", _BOOT, *self.arguments(taps)], self.console, env)

    def _processor(self) -> int:
        """One of the host's processors for each node of this kind."""
        usable = sorted(os.sched_getaffinity(0), reverse=True)
        own = [node.name for node in self.spec.nodes if node.kind == "uml"]
        return usable[own.index(self.node.name) % len(usable)]

    def arguments(self, taps: Sequence[str]) -> list[str]:
        """Its kernel arguments: memory, disks and interfaces, as seen by `uml.sh`.

        :param taps: the lab's ends of its interfaces
        """
        words = [f"umid={self.node.name}", f"mem={self.node.memory}M", f"ubd0=/node/upper/{IMAGE}"]
        words += [f"ubd{_number(disk)}=/node/disks/{self.file_of(disk).name}" for disk in self.node.disks]
        # Without gro, large frames from other nodes are dropped, and iSCSI stalls.
        return words + [
            f"vec{index}:transport=tap,ifname={tap},depth=128,gro=1,mac={self._mac(index)}"
            for index, tap in enumerate(taps)
        ]

    def plug(self, new: Sequence[Disk]) -> None:
        """Attach new disks to its kernel."""
        for disk in new:
            self._tell(f"config ubd{_number(disk)}=/node/disks/{self.file_of(disk).name}")

    def ready(self) -> bool:
        """Whether its ssh server sends a banner: the host cannot see its sockets."""
        if self.init is None:
            return False
        try:
            return network.inside(network.NAMESPACES / network.namespace(self.spec), self.answers)
        except LabError:
            return False

    def enter(self, words: Sequence[str]) -> list[str]:
        """By ssh: the host cannot enter its namespaces."""
        config = self.folder.parent.parent / "ssh/config"
        terminal = [] if words else ["-t"]
        return ["ssh", *terminal, "-F", str(config), self.node.name, *([shlex.join(words)] if words else [])]

    def press_power_button(self) -> None:
        """Uses its kernel's console."""
        self._tell("cad")

    def kill(self) -> None:
        """Its interfaces belong to the lab and outlive it."""
        super().kill()
        network.delete_taps(self.spec, self.node)

    def _tell(self, command: str) -> None:
        """Send a command to its kernel's console. A reply could not reach us: it has a different root directory."""
        request = struct.pack(f"III{_LONGEST}s", _MAGIC, _VERSION, len(command), command.encode())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as console, contextlib.suppress(OSError):
            console.sendto(request, str(self.folder / "uml" / self.node.name / "mconsole"))


def _number(disk: Disk) -> int:
    """ubdb is disk 1."""
    return ord(disk.device[-1]) - ord("a")

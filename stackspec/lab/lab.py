"""The lab: bare nodes on this host, created and removed as one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..errors import ActionError, InputError
from ..site import ImageBuilder, cache_directory, state_directory
from . import cgroup, identity, kernel, network, partial_mirror, rootfs, service, snapshots
from .amphora import TEST_AMPHORA
from .container import Container, detach
from .error import LabError, require
from .guest import TEST_GUEST
from .image import Recipe
from .mirror import SUITE, Mirror, choose
from .node import NodeProcess, NodeStatus
from .partial_mirror import Wanted, names_of
from .proxy import recorded
from .spec import LabSpec
from .state import Folder, State
from .uml import UserModeLinux

READY_WITHIN = 180.0  # seconds; on an idle machine a container takes two, a UML node fifteen


class Lab:
    """A lab on this host, running or not.

    :param spec: its specification
    :raises LabError: without root, or without a required command or kernel feature
    """

    def __init__(self, spec: LabSpec) -> None:
        if os.geteuid() != 0:
            raise LabError("The lab needs root to create network namespaces and mounts. Run it with sudo.")
        require("ip", "losetup", "nft", "nsenter", "setsid", "ssh-keygen", "taskset", "unshare")
        self.spec = spec
        self.cache = cache_directory().absolute()
        base = state_directory().absolute()
        for path in (self.cache, base):
            if set(str(path)) & set(':,"\\'):
                raise LabError(f"The lab cannot use {path}: it has characters that are special in overlay mounts")
        self.folder = Folder(base / "lab" / spec.name)
        self.group = cgroup.root() / spec.prefix
        kinds: dict[str, type[NodeProcess]] = {"container": Container, "uml": UserModeLinux}
        self.nodes = [kinds[node.kind](spec, node, self.folder.node(node.name), self.cache) for node in spec.nodes]

    @property
    def ssh_config(self) -> Path:
        """The OpenSSH client configuration that knows the nodes."""
        return self.folder.ssh / "config"

    @property
    def namespace(self) -> Path:
        """The file of the lab's network namespace."""
        return network.NAMESPACES / network.namespace(self.spec)

    def up(self, say: Callable[[str], None] = print) -> None:
        """Boot missing nodes; running nodes only get new disks of the inventory.

        :param say: called with progress lines
        :raises LabError: a part cannot be created; existing parts stay for another `up` or for `down`
        """
        with self.folder.locked():
            state = snapshots.finish(self.folder, self.spec, self.folder.read(), self._halt)
            self._boot(state, say)

    def images(
        self, wanted: Collection[str], say: Callable[[str], None] = print, begin: bool = True
    ) -> dict[str, ImageBuilder]:
        """Start building those of the `wanted` images that the lab builds itself; a builder waits for its image.

        These threads stay outside the lab's network, with access to packages: call it before `enter`.

        :param begin: False: build an image only when its builder is called
        """

        def build(recipe: Recipe) -> Path:
            return recipe.build(self.cache, say, choose(self.spec))

        recipes = [recipe for recipe in (TEST_GUEST, TEST_AMPHORA) if recipe.name in wanted]
        return {
            each.name: ImageBuilder(
                each.path(self.cache).name,
                self._in_background(each.name, partial(build, each)) if begin else partial(build, each),
            )
            for each in recipes
        }

    def _in_background(self, name: str, build: Callable[[], Path]) -> Callable[[], Path]:
        """Build an image in a daemon thread; the returned function waits for the image."""
        built: Future[Path] = Future()

        def work() -> None:
            try:
                built.set_result(build())
            except Exception as error:
                # For the step that needs the image.
                built.set_exception(ActionError(f"build image {name}", output=str(error)))

        threading.Thread(target=work, name=name, daemon=True).start()
        return built.result

    def down(self, everything: bool = False) -> None:
        """Remove all processes, networks and disks of the lab.

        Its snapshots, their nodes' keys, the record of packages and the cache stay.

        :param everything: also remove these, the cache only if there is no other lab
        :raises LabError: a process or a namespace cannot be removed
        """
        with self.folder.locked():
            self._halt()
            cgroup.kill(self.group)
            network.delete_all(self.spec)
            # Includes those of nodes that are no longer in the inventory.
            for folder in self.folder.nodes.glob("*"):
                detach(folder)
            _remove(self.folder.root, keep=() if everything else ("snapshots", "ssh", self.folder.record.name))
            if everything and not any(path.is_dir() for path in self.folder.root.parent.iterdir()):
                shutil.rmtree(self.cache, ignore_errors=True)

    def status(self) -> list[NodeStatus]:
        """The state of every node."""
        return [process.status() for process in self.nodes]

    def is_up(self) -> bool:
        """Whether every node is running, and the package proxy as well."""
        return service.alive(self.group) and all(process.ready() for process in self.nodes)

    def shell(self, node: str, command: Sequence[str] = ()) -> int:
        """Run a command, or a login shell, on a node as root, without ssh.

        :param node: its name
        :param command: words of the command
        :returns: the exit status
        :raises LabError: when there is no such node or it does not run
        """
        process = self._process(node)
        if process.init is None:
            raise LabError(f"The node {node} is not running. Start it: stackspec lab up")
        return subprocess.run(process.enter(command)).returncode

    def power_cycle(self, *nodes: str, say: Callable[[str], None] = print) -> None:
        """Cut the power of nodes, all at once, and restore it; returns when they have booted.

        :param nodes: their names
        :raises LabError: when there is no such node, or it does not come back
        """
        with self.folder.locked():
            self._each(lambda process: process.kill(), [self._process(node) for node in nodes])
            self._boot(self.folder.read(), say)

    def snapshot(self, name: str, say: Callable[[str], None] = print) -> None:
        """Save the state of all nodes under a name; only disks are copied. Nodes are shut down and booted again.

        :param name: letters, digits, dashes
        :raises LabError: when the name is taken or the lab is not up
        """
        with self.folder.locked():
            state = snapshots.finish(self.folder, self.spec, self.folder.read(), self._halt)
            snapshots.check_new(self.folder, name)
            if not all(self.folder.upper(node.name).is_dir() for node in self.spec.nodes):
                raise LabError("There is no lab to take a snapshot of. Run: stackspec lab up")
            say("nodes: shutting down")
            self._each(lambda process: process.stop())
            state = self.folder.write(replace(state, saving=name))
            state = snapshots.finish(self.folder, self.spec, state, self._halt)
            self._boot(state, say)

    def restore(self, name: str, say: Callable[[str], None] = print) -> None:
        """Boot all nodes from a snapshot; later changes are lost.

        :param name: the snapshot
        :raises LabError: when there is no such snapshot or its root file system is gone
        """
        with self.folder.locked():
            state = snapshots.finish(self.folder, self.spec, self.folder.read(), self._halt)
            snapshots.check_usable(self.folder, self.spec, self.folder.snapshot(name), self.cache)
            self._halt()
            state = self.folder.write(replace(state, restoring=name))
            state = snapshots.finish(self.folder, self.spec, state, self._halt)
            self._boot(state, say)

    def mirror(self, folder: Path, say: Callable[[str], None] = print) -> partial_mirror.Result:
        """Make a directory with the packages that the lab was made from and that its nodes fetched, or update it.

        :param folder: the directory; the archive is `debian` in it, the security archive `debian-security`
        :param say: called with progress lines
        :raises InputError: the directory contains something else, or the lab's own mirror is a directory
        :raises LabError: nothing was fetched yet, or the archive cannot be reached
        """
        name = self.folder.read().rootfs or rootfs.key(self.spec.suite)
        root = rootfs.path_of(self.cache, name)
        fetched = recorded(self.folder.record)
        if not root.is_dir() or not fetched:
            raise LabError("The nodes have fetched no packages. Deploy the site first, on new nodes: stackspec lab up")
        mirror = choose(self.spec) or rootfs.mirror_of(self.cache, name)
        if mirror.folders():
            raise InputError(f"The lab's own mirror is a directory, {mirror.archive}: copy that instead")
        wanted = [Wanted(tuple(mirror.suites()), names_of(fetched) | rootfs.installed(root))]
        for recipe in (TEST_GUEST, TEST_AMPHORA):
            parts = [self._parts_of(made) for made in recipe.records(self.cache)]
            if all(parts):
                wanted.append(Wanted(((mirror.archive, SUITE),), frozenset().union(*parts)))
            else:
                say(f"{recipe.name} was not built yet: the mirror is for deployments with a bundle, which includes it")
        if any(node.kind == "uml" for node in self.spec.nodes):
            names = self._parts_of(kernel.key())
            if not names:
                raise LabError("The kernel's packages are not known. Run: stackspec lab down; stackspec lab up")
            wanted.append(Wanted(((mirror.archive, kernel.SUITE),), names))
        archives = {mirror.archive: "debian"} | ({mirror.security: "debian-security"} if mirror.security else {})
        settings = service.settings(self.cache, mirror)
        return partial_mirror.write(folder.absolute(), self.spec.name, archives, wanted, settings, say)

    def enter(self) -> None:
        """Move the calling thread and its future children into the lab's network namespace, permanently.

        Call it in the main thread before connections are opened: running threads stay where they are (another plugin in
        the same process may have one).

        :raises LabError: when the lab is not up
        """
        network.setns(self.namespace)

    def drops(self) -> int:
        """Number of rejected packets from nodes and guests to addresses outside the lab.

        :raises LabError: when the lab has no network
        """
        count = network.drops(self.spec)
        if count is None:
            raise LabError("The lab has no network. Run: stackspec lab up")
        return count

    def _parts_of(self, made: str) -> frozenset[str]:
        """Names of the packages that something in the cache was made from."""
        return names_of(recorded(service.record_of(self.cache, made)))

    def _process(self, name: str) -> NodeProcess:
        return self.nodes[self.spec.nodes.index(self.spec.node(name))]

    def _boot(self, state: State, say: Callable[[str], None]) -> None:
        started = time.monotonic()
        mirror = choose(self.spec)
        if mirror and not state.layers and any(self._is_new(each) for each in self.nodes if each.node.kind == "uml"):
            self._unpack_kernel(mirror, say)
        state = self.folder.write(self._with_rootfs(state, say))
        mirror = mirror or rootfs.mirror_of(self.cache, state.rootfs)
        root = rootfs.path_of(self.cache, state.rootfs)
        missing = [process for process in self.nodes if process.init is None]
        if len(missing) < len(self.nodes) and network.drops(self.spec) is None:
            raise LabError("Nodes are running, but the lab's network is gone. Run: stackspec lab down")
        state = self._note_machine(state, missing, say)
        identity.make_keys(self.spec, self.folder.ssh)
        network.make_lab(self.spec)
        service.ensure(self.spec, self.folder, self.group, self.cache, mirror)

        def boot(process: NodeProcess) -> None:
            upper = self.folder.upper(process.node.name)
            if not upper.is_dir():
                upper.parent.mkdir(parents=True, exist_ok=True)
                if state.layers:
                    upper.mkdir()
                else:
                    process.make(upper, mirror, self.folder.ssh, root, say)
            process.start(self.folder.lower(state, process.node.name, root))

        if missing:
            say(f"nodes: booting {', '.join(process.node.name for process in missing)}")
        self._each(boot, missing)
        self._each(lambda process: process.attach_disks(), [each for each in self.nodes if each not in missing])
        self._each(lambda process: network.inside(self.namespace, lambda: process.wait_ready(READY_WITHIN)))
        _discard(self.folder.trash, self.group)
        say(f"lab {self.spec.name} is up ({time.monotonic() - started:.1f} s)")

    def _is_new(self, process: NodeProcess) -> bool:
        return not self.folder.upper(process.node.name).is_dir()

    def _unpack_kernel(self, mirror: Mirror, say: Callable[[str], None]) -> None:
        """Build it in parallel with the root file system; the node that needs it waits, or gets the same error."""

        def work() -> None:
            with contextlib.suppress(LabError):
                kernel.ensure(self.cache, mirror, say)

        threading.Thread(target=work, name="kernel", daemon=True).start()

    def _with_rootfs(self, state: State, say: Callable[[str], None]) -> State:
        if any(self.folder.upper(node.name).is_dir() for node in self.spec.nodes) or state.layers:
            # Nodes keep their original root file system, even if the recipe has changed.
            if not rootfs.path_of(self.cache, state.rootfs).is_dir():
                raise LabError(
                    f"The root file system {state.rootfs} under this lab is gone from {self.cache}. "
                    "Run: stackspec lab down; stackspec lab up"
                )
            return state
        return replace(state, rootfs=rootfs.ensure(self.cache, self.spec.suite, choose(self.spec), say))

    def _note_machine(self, state: State, missing: Sequence[NodeProcess], say: Callable[[str], None]) -> State:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        if state.boot and state.boot != boot and missing:
            say("The machine restarted while the lab was running: the nodes' last minute of writes may be corrupted")
        return self.folder.write(replace(state, boot=boot))

    def _halt(self) -> None:
        """Kill all nodes at once."""
        self._each(lambda process: process.kill())

    def _each(self, call: Callable[[NodeProcess], None], which: Sequence[NodeProcess] | None = None) -> None:
        processes = self.nodes if which is None else which
        if processes:
            with ThreadPoolExecutor(len(processes)) as pool:
                list(pool.map(call, processes))


def _remove(folder: Path, keep: Sequence[str]) -> None:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _discard(trash: Path, group: Path) -> None:
    """Delete the files discarded by a restore, possibly many, in the background."""
    if trash.is_dir():
        cgroup.spawn(group / "helpers", ["nice", "rm", "-rf", str(trash)], Path(os.devnull))

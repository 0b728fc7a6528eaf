"""Applications from wheels: one environment per node, and the removal of those that it replaces."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from ..inventory import Node
from ..site import Site
from ..store import Part
from ..wheels import COMMANDS, COMPILED, archive, check_requirements
from .actions import Execute, Remove, Write
from .base import Change, Context, Difference, Query, Resource, file, run, uses

_PYTHON = ("python3", "-c", "import platform, sys; print('%d.%d' % sys.version_info[:2], platform.machine())")
_STAMP = ".stackspec"
_LINKS = "/usr/bin"
_PARTS = (".part", ".tar.gz")
"""What a killed run leaves: an environment that is unpacked or removed, and its archive."""
NEEDED = 1200
"""MiB needed for an environment on a node, including its archive during unpacking."""


@dataclass(frozen=True)
class Environment(Resource):
    """The release's environment at its path, with links to its commands in /usr/bin, as with packages.

    All steps of a node share it; the engine creates it once, together with the packages. Changed contents mean a
    different path: the new environment coexists with the old one until services have been restarted.

    :param path: the environment, whose name depends on its content
    """

    read_again: ClassVar[bool] = True
    with_packages: ClassVar[bool] = True
    path: str

    @property
    def title(self) -> str:
        return f"environment {self.path}"

    @property
    def stamp(self) -> str:
        """Written last, so it is newer than processes started before the environment was created."""
        return f"{self.path}/{_STAMP}"

    def paths(self, site: Site) -> tuple[str, ...]:
        return (self.stamp,)

    def _astray(self) -> Query:
        """Commands whose links are missing or wrong, one per line, with the target of a wrong one."""
        script = (
            f"while read -r name; do target=$(readlink {_LINKS}/$name); "
            f'[ "$target" = {self.path}/bin/$name ] || echo "$name $target"; done < {self.path}/{COMMANDS}'
        )
        return run("sh", "-c", script)

    def _room(self) -> Query:
        return run("df", "--block-size=1M", "--output=avail", self._folder)

    @property
    def _folder(self) -> str:
        return str(PurePosixPath(self.path).parent)

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(self.stamp), self._astray(), run(*_PYTHON), self._room()]

    def parts(self, site: Site) -> list[Part]:
        wheels = site.release.wheels
        assert wheels is not None
        name = f"environments/{PurePosixPath(self.path).name}.tar.gz"
        return [Part(name, f"the environment of {site.release.name}", lambda: site.outside(lambda: archive(wheels)))]

    def obstacles(self, context: Context) -> list[str]:
        wheels, found = context.site.release.wheels, self.lacking(context.site)
        assert wheels is not None
        if not context.facts[file(self.stamp)]["exists"] and context.site.store.fetches:
            context.site.outside(lambda: check_requirements(wheels))
        python = str(context.facts[run(*_PYTHON)]["out"]).strip()
        wanted = f"{wheels.python} {wheels.platform.partition('-')[0]}"
        if python != wanted:
            found.append(
                f"python3 is {python or 'missing'}, but {context.site.release.name} has wheels for Python {wanted}"
            )
        room = str(context.facts[self._room()]["out"]).split()[-1:]
        if not context.facts[file(self.stamp)]["exists"] and room and int(room[0]) < NEEDED:
            found.append(f"{self._folder}: {room[0]} MiB free, but the environment needs {NEEDED}; free some space")
        return found

    def changes(self, context: Context) -> list[Change]:
        what = f"link the commands of {self.path} into {_LINKS}"
        link = Execute(("sh", "-c", self._link_script), what=what, show=self._link_script)
        stamp = Write(self.stamp, f"{self.path}\n", 0o644)
        if _is_whole(context, self.path):
            astray = context.facts[self._astray()]
            found = [line.partition(" ") for line in str(astray["out"]).splitlines()]
            if astray["status"] and not found:
                found = [(COMMANDS, "", "")]
            if not found:
                return []
            differences = tuple(
                Difference(f"{_LINKS}/{name}", f"{self.path}/bin/{name}", target or "no link")
                for name, _, target in found
            )
            # Back from another environment: what runs was started from there.
            elsewhere = any(target for _, _, target in found)
            again = Change(f"link commands of {self.path}", differences, "", (link,))
            touched = dataclasses.replace(again, actions=(stamp, link), touches=(self.stamp,))
            return [touched if elsewhere else again]
        (part,) = self.parts(context.site)
        # Built separately first, so that nothing is sent to the node if it fails.
        fetch = functools.cache(lambda: context.site.store.take(part).read_bytes())
        bundle = Write(f"{self.path}.tar.gz", fetch, 0o600)
        script = self._unpack_script
        unpack = Execute(("sh", "-c", script), timeout=1800.0, what=f"unpack {self.path}", show=script)
        difference = Difference(self.path, "present", "absent")
        actions = (fetch, bundle, unpack, link, stamp)
        return [Change(f"create {self.path}", (difference,), "", actions, (self.stamp,))]

    @property
    def _unpack_script(self) -> str:
        path, part = shlex.quote(self.path), shlex.quote(f"{self.path}.part")
        return (
            f"set -e; umask 022; rm -rf {part}; mkdir -p {part}; tar -xzf {path}.tar.gz -C {part}; "
            f"rm -rf {path}; mv {part} {path}; "
            f"[ -e {path}/{COMPILED} ] || {path}/bin/python -m compileall -q -j 0 {path}/lib || true; rm {path}.tar.gz"
        )

    @property
    def _link_script(self) -> str:
        return (
            f"while read -r name; do "
            f"if [ -e {_LINKS}/$name ] && [ ! -h {_LINKS}/$name ]; then "
            f"echo {_LINKS}/$name: file of a package of the distribution >&2; exit 1; fi; "
            f"ln -sfn {self.path}/bin/$name {_LINKS}/$name || exit 1; done < {self.path}/{COMMANDS}"
        )


@dataclass(frozen=True)
class Superseded(Resource):
    """No environment with another content is left, unless something uses it.

    It comes after all steps of the node, which move services to the current environment one after the other.

    :param path: the current environment
    """

    last: ClassVar[bool] = True
    path: str

    @property
    def title(self) -> str:
        return f"no environment but {self.path}"

    def _others(self) -> Query:
        stem = self.path.rpartition("-")[0]
        return uses(f"{stem}-{'[0-9a-f]' * 12}*", self.path)

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(f"{self.path}/{_STAMP}"), file(f"{self.path}/{COMMANDS}"), self._others()]

    def _found(self, context: Context) -> dict[str, list[str]]:
        """Other environments, whole or in parts, and what uses each."""
        found: dict[str, list[str]] = {}
        for path, users in context.facts[self._others()].items():
            other, rest = path[: len(self.path)], path[len(self.path) :]
            if rest in ("", *_PARTS):
                found.setdefault(other, []).extend(each for each in users if each not in found.get(other, ()))
        return found

    def _gone(self, context: Context) -> set[str]:
        """Links of commands that the current environment has not got: nothing else would remove them."""
        kept = {f"{_LINKS}/{name}" for name in str(context.facts[file(f"{self.path}/{COMMANDS}")]["content"]).split()}
        users = {each for found in self._found(context).values() for each in found}
        return {each for each in users - kept if each.startswith(f"{_LINKS}/")}

    def changes(self, context: Context) -> list[Change]:
        current = _is_whole(context, self.path)
        gone = self._gone(context) if current else set()
        changes = []
        for path, users in self._found(context).items():
            links = sorted(gone.intersection(users))
            busy = len(users) > len(links)
            if busy and current:
                continue
            # Before the current one is there, steps will yet move what uses it.
            differences = [Difference(each, "absent", f"a link into {path}") for each in links]
            differences.append(Difference(path, "absent", f"used by {_words(users)}" if busy else "unused"))
            script = _remove_script(path)
            remove = Execute(("sh", "-c", script), timeout=1800.0, what=f"remove {path}", show=script)
            actions = (*map(Remove, links), remove)
            changes.append(Change(f"remove {path}", tuple(differences), "", actions))
        return changes

    def kept(self, context: Context) -> list[str]:
        gone = self._gone(context)
        used = {path: [each for each in users if each not in gone] for path, users in self._found(context).items()}
        return [f"{path} is kept: used by {_words(users)}" for path, users in used.items() if users]


def _is_whole(context: Context, path: str) -> bool:
    """Whether the environment has its stamp: a killed run leaves none."""
    return str(context.facts[file(f"{path}/{_STAMP}")]["content"]) == f"{path}\n"


def _words(users: list[str]) -> str:
    return ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")


def _remove_script(path: str) -> str:
    """Renamed first: with its stamp, half an environment would be taken for a whole one."""
    part, bundle = (f"{path}{each}" for each in _PARTS)
    return f"set -e; rm -rf {part} {bundle}; [ ! -e {path} ] || mv {path} {part}; rm -rf {part}"

"""Applications from wheels: one environment per node, plus the users, files and units that packages would install."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from ..inventory import Node
from ..release import FromWheels, Owner, Unit, Wheels
from ..site import Site
from ..store import Part
from ..wheels import COMMANDS, COMPILED, archive, folder_of
from .actions import Execute, Remove, Write
from .base import Change, Context, Difference, Query, Resource, file, run, uses
from .command import Command
from .files import Directory, File
from .ini import IniFile
from .packages import Packages
from .service import UNITS, Service

_PYTHON = ("python3", "-c", "import sys; print('.'.join(map(str, sys.version_info[:2])))")
_STAMP = ".stackspec"
_LINKS = "/usr/bin"
_PARTS = (".part", ".tar.gz")
"""What a killed run leaves: an environment that is unpacked or removed, and its archive."""
NEEDED = 1200
"""MiB needed for an environment on a node, including its archive during unpacking."""


def from_wheels(site: Site, resources: Iterable[Resource]) -> list[Resource]:
    """`resources` of a step, with packages replaced by the release's wheels where they are defined."""
    wheels = site.release.wheels
    if wheels is None:
        return list(resources)
    found: list[Resource] = []
    seen: set[str] = set()
    for resource in resources:
        found.append(_follows(site, wheels, resource))
        if not isinstance(resource, Packages):
            continue
        parts = {name: wheels.packages[name] for name in resource.names if name in wheels.packages}
        if parts and not any(isinstance(each, Environment) for each in found):
            found.append(Environment(folder_of(wheels)))
        for part in parts.values():
            if part.owner:
                if part.owner not in seen:
                    found += _of_owner(wheels, part.owner)
                    seen.add(part.owner)
                found += _units(wheels, part)
            found += [File(_filled(path, wheels), _filled(text, wheels)) for path, text in part.files.items()]
            found += [Link(_filled(path, wheels), _filled(target, wheels)) for path, target in part.links.items()]
    if any(isinstance(each, Environment) for each in found):
        found.append(Superseded(folder_of(wheels)))
    return found


def _follows(site: Site, wheels: Wheels, resource: Resource) -> Resource:
    """`resource`, so that it is made anew or started again for another environment."""
    environment = Environment(folder_of(wheels))
    if isinstance(resource, Command) and resource.creates in wheels.built:
        return dataclasses.replace(resource, made_from=environment.path)
    if isinstance(resource, Service) and resource.reads is not None:
        ours = {name for part in wheels.packages.values() for name in part.units}
        if ours.intersection(resource.units(site)):
            return Service(*resource.names, reads=(*resource.reads, environment.stamp))
    return resource


def _of_owner(wheels: Wheels, name: str) -> Iterator[Resource]:
    """The user of a project, its folders, the project's files in /etc, and its sudo rules."""
    owner: Owner = wheels.owners[name]
    yield SystemUser(name, owner.groups)
    yield Directory(f"/etc/{name}", mode=0o750, group=name)
    yield Directory(f"/var/lib/{name}", 0o755 if owner.shared else 0o750, name, name)
    for folder in owner.folders:
        yield Directory(folder, owner=name, group=name)
    yield Defaults(f"{folder_of(wheels)}/etc/{name}", f"/etc/{name}", name, owner.settings)
    for path, target in owner.links.items():
        yield Link(path, _filled(target, wheels))
    if owner.sudo:
        lines = "".join(f"{name} ALL = (root) NOPASSWD: {command}\n" for command in owner.sudo)
        yield File(f"/etc/sudoers.d/{name}", f"Defaults:{name} !requiretty\n{lines}", mode=0o440)


def _units(wheels: Wheels, part: FromWheels) -> Iterator[Resource]:
    for name, unit in part.units.items():
        command = unit.run
        if unit.wsgi:
            settings = f"/etc/{part.owner}/{name}-uwsgi.ini"
            yield IniFile(settings, {"uwsgi": _uwsgi(wheels, unit, name)}, mode=0o644)
            command = f"/usr/bin/uwsgi_python3 --ini {settings}{'' if unit.port else ' $BIND_PARAMS'}"
        yield File(f"{UNITS}{name}.service", _unit(name, unit, part.owner, _filled(command, wheels)))


def _uwsgi(wheels: Wheels, unit: Unit, name: str) -> dict[str, str | int]:
    environment = folder_of(wheels)
    listens: dict[str, str | int] = {"http-socket": f":{unit.port}"} if unit.port else {}
    # Projects bring a script for it, or, of late, only a module.
    serves = {"module": unit.wsgi} if ":" in unit.wsgi else {"wsgi-file": f"{environment}/bin/{unit.wsgi}"}
    return {
        **listens,
        **serves,
        "virtualenv": environment,
        "master": "true",
        "die-on-term": "true",
        "need-app": "true",
        "enable-threads": "true",
        "lazy-apps": "true",
        "thunder-lock": "true",
        # Tokens and catalogs cause long headers; an unread request body would reset the connection.
        "buffer-size": 65535,
        "post-buffering": 65536,
        # It closes each connection without saying so: a client that kept one would find its next request reset.
        "add-header": "Connection: close",
        "disable-logging": "true",
        "procname-prefix-spaced": name,
        "processes": 4,
        "threads": 1,
    }


def _unit(name: str, unit: Unit, user: str, command: str) -> str:
    """The text of a unit. Units that become root are not sandboxed: they need the node's mounts and namespaces."""
    options = {"Type": "exec", "User": user, "Group": user, "WorkingDirectory": f"/var/lib/{user}"}
    options |= {"ExecStart": command, "Restart": "always", "RestartSec": "2", "LimitNOFILE": "65535"}
    options |= {"TimeoutStopSec": "65", "KillMode": "mixed", "SyslogIdentifier": name}
    if not unit.root:
        options |= {"NoNewPrivileges": "true", "ProtectSystem": "full", "ProtectHome": "true"}
        options |= {"PrivateTmp": "true", "UMask": "0027"}
    options |= unit.options
    lines = "".join(f"{key}={value}\n" for key, value in options.items())
    # Units that are missing on this node or fail to start do not matter.
    others = " ".join(("network-online.target", *unit.wants))
    first = " ".join(("mariadb.service", "rabbitmq-server.service", "memcached.service"))
    return (
        f"[Unit]\nDescription=OpenStack {name}\nAfter={others} {first}\nWants={others}\n\n"
        f"[Service]\n{lines}\n[Install]\nWantedBy=multi-user.target\n"
    )


def _filled(text: str, wheels: Wheels) -> str:
    environment = folder_of(wheels)
    library = f"{environment}/lib/python{wheels.python}/site-packages"
    return text.replace("{environment}", environment).replace("{library}", library)


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
        return run("df", "--block-size=1M", "--output=avail", "/opt")

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
        python = str(context.facts[run(*_PYTHON)]["out"]).strip()
        if python != wheels.python:
            found.append(
                f"python3 is {python or 'missing'}, but {context.site.release.name} has wheels for Python "
                f"{wheels.python}"
            )
        room = str(context.facts[self._room()]["out"]).split()[-1:]
        if not context.facts[file(self.stamp)]["exists"] and room and int(room[0]) < NEEDED:
            found.append(f"/opt: {room[0]} MiB free, but the environment needs {NEEDED}; free some space")
        return found

    def changes(self, context: Context) -> list[Change]:
        what = f"link the commands of {self.path} into {_LINKS}"
        link = Execute(("sh", "-c", self._link_script), what=what, show=self._link_script)
        stamp = Write(self.stamp, f"{self.path}\n", 0o644)
        if str(context.facts[file(self.stamp)]["content"]) == f"{self.path}\n":
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
        current = str(context.facts[file(f"{self.path}/{_STAMP}")]["content"]) == f"{self.path}\n"
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

    def stays(self, context: Context) -> list[str]:
        gone = self._gone(context)
        used = {path: [each for each in users if each not in gone] for path, users in self._found(context).items()}
        return [f"{path} is kept: used by {_words(users)}" for path, users in used.items() if users]


def _words(users: list[str]) -> str:
    return ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")


def _remove_script(path: str) -> str:
    """Renamed first: with its stamp, half an environment would be taken for a whole one."""
    part, bundle = (f"{path}{each}" for each in _PARTS)
    return f"set -e; rm -rf {part} {bundle}; [ ! -e {path} ] || mv {path} {part}; rm -rf {part}"


@dataclass(frozen=True)
class SystemUser(Resource):
    """A system user and group for a service, without login.

    :param name: name of both
    :param groups: supplementary groups, if they exist
    """

    name: str
    groups: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"user {self.name}"

    def _look(self) -> Query:
        """What is missing; empty if the user is correct."""
        script = f"getent passwd {self.name} >/dev/null || echo user; "
        script += "".join(
            f"! getent group {group} >/dev/null || id -nG {self.name} 2>/dev/null | grep -qw {group} || echo {group}; "
            for group in self.groups
        )
        return run("sh", "-c", script)

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [self._look()]

    def changes(self, context: Context) -> list[Change]:
        missing = str(context.facts[self._look()]["out"]).split()
        if not missing:
            return []
        differences = tuple(
            Difference(self.title if each == "user" else f"group {each} of {self.name}", "present", "absent")
            for each in missing
        )
        home = f"--home-dir /var/lib/{self.name} --no-create-home --shell /usr/sbin/nologin"
        script = f"getent passwd {self.name} >/dev/null || useradd --system --user-group {home} {self.name} || exit 1\n"
        script += "".join(
            f"! getent group {group} >/dev/null || usermod --append --groups {group} {self.name} || exit 1\n"
            for group in self.groups
        )
        action = Execute(("sh", "-c", script), what=f"create {self.title}", show=script)
        return [Change(f"create {self.title}", differences, "", (action,), marks=(self.title,))]


@dataclass(frozen=True)
class Defaults(Resource):
    """A project's files for its folder in /etc, copied once; afterwards the operator owns those that differ.

    A copy that is still as another environment brought it is replaced by this one's.

    :param source: folder in the environment, which may be missing
    :param folder: destination
    :param group: group that may read settings with secrets
    :param settings: files with secrets, created empty if the project has none
    """

    source: str
    folder: str
    group: str
    settings: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"files of {self.source}"

    @property
    def _due(self) -> str:
        """A function of the shell: whether a file is missing, or as another environment has it and this one not."""
        environment, _, name = self.source.rpartition("/etc/")
        others = f'{environment.rpartition("-")[0]}-????????????/etc/{name}/"$1"'
        return (
            f'due() {{ [ -e "{self.folder}/$1" ] || return 0; for other in {others}; do [ "$other" -ef "$1" ] || '
            f'! cmp -s "$other" "{self.folder}/$1" || cmp -s "$1" "{self.folder}/$1" || return 0; done; return 1; }}'
        )

    def _look(self) -> Query:
        """Missing and outdated files, and settings with wrong owner or mode, one path per line."""
        script = f"{self._due}; cd {self.source} 2>/dev/null && find . -type f | while read -r name; do "
        script += f'! due "$name" || echo "{self.folder}/${{name#./}}"; done; '
        script += "".join(
            f'[ "$(stat -c "%U:%G %a" {path} 2>/dev/null)" = "root:{self.group} 640" ] || echo {path}; '
            for path in self.settings
        )
        return run("sh", "-c", script)

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [self._look()]

    def changes(self, context: Context) -> list[Change]:
        missing = list(dict.fromkeys(str(context.facts[self._look()]["out"]).split()))
        if not missing:
            return []
        differences = tuple(
            Difference(name, "present with its owner and mode", "missing, outdated or wrong") for name in missing
        )
        script = f"set -e; umask 022; {self._due}\n"
        script += f"if cd {self.source} 2>/dev/null; then find . -type f | while read -r name; do "
        script += f'! due "$name" || install -D -m 644 "$name" "{self.folder}/$name"; done; fi\n'
        for path in self.settings:
            folder = PurePosixPath(path).parent
            script += f"mkdir -p {folder}; [ -e {path} ] || install -m 640 /dev/null {path}\n"
            script += f"chown root:{self.group} {path}; chmod 640 {path}\n"
        action = Execute(("sh", "-c", script), what=f"copy {self.title}", show=script)
        return [Change(f"copy {self.title}", differences, "", (action,))]


@dataclass(frozen=True)
class Link(Resource):
    """A symbolic link.

    :param path: the link
    :param target: its target
    """

    path: str
    target: str

    @property
    def title(self) -> str:
        return self.path

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(self.path)]

    def changes(self, context: Context) -> list[Change]:
        found = context.facts[file(self.path)]
        if found["exists"] and found["kind"] == "link" and found["content"] == self.target:
            return []
        difference = Difference(self.path, f"a link to {self.target}", "another file" if found["exists"] else "absent")
        action = Execute(("ln", "-sfn", self.target, self.path))
        return [Change(f"link {self.path}", (difference,), "", (action,))]

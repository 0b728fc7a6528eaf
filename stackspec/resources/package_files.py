"""Users, default files and links that a distribution's packages would install."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..inventory import Node
from ..site import Site
from .actions import Execute
from .base import Change, Context, Difference, Query, Resource, file, run


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

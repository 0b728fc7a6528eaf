"""Steps from wheels: what comes in place of the distribution's packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from ..node_agent.files import UNITS
from ..release import FromWheels, Owner, Unit, Wheels
from ..site import Site
from ..wheels import folder_of, library_of
from .base import Resource
from .command import Command
from .environment import Environment, Superseded
from .files import Directory, File
from .ini import IniFile
from .package_files import Defaults, Link, SystemUser
from .packages import Packages
from .service import Service


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
        yield File(f"{UNITS}{name}.service", _unit(name, unit, part.owner, _filled(command, wheels), wheels.after))


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


def _unit(name: str, unit: Unit, user: str, command: str, after: tuple[str, ...]) -> str:
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
    return (
        f"[Unit]\nDescription={name}\nAfter={' '.join((others, *after))}\nWants={others}\n\n"
        f"[Service]\n{lines}\n[Install]\nWantedBy=multi-user.target\n"
    )


def _filled(text: str, wheels: Wheels) -> str:
    return text.replace("{environment}", folder_of(wheels)).replace("{library}", library_of(wheels))

"""Mutants of resource classes: one expression is replaced while a plan is created."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stackspec.openstack import (
    Bootstrap,
    Database,
    DbSync,
    DomainAdmin,
    Endpoint,
    Flavor,
    Network,
    OvsBridge,
    Project,
    Ring,
    RoleAssignment,
    SecurityGroup,
    ServicePort,
    ServiceUser,
    Subnet,
)
from stackspec.openstack.rabbitmq import NoRabbitUser, RabbitUser
from stackspec.resources import (
    Command,
    Directory,
    File,
    IniFile,
    Lines,
    Mounted,
    Packages,
    PythonSettings,
    Service,
    VolumeGroup,
    Xfs,
    YamlFile,
)
from stackspec.resources.service import Unwanted

CODE: list[tuple[type[Any], str, str, str]] = [
    (Database, "changes", "GRANT ALL PRIVILEGES", "GRANT SELECT PRIVILEGES"),
    (Database, "changes", 'f"{user} database"', "user"),
    (Database, "changes", "ALTER USER {account}", "ALTER USER 'root'@'localhost'"),
    (Database, "hosts", '"localhost", ', '"127.0.0.1", '),
    (Database, "hosts", 'f"{cidr.network_address}/{cidr.netmask}"', '"%"'),
    (DbSync, "changes", "user=self.user", 'user=""'),
    (DbSync, "changes", "(begin, sync, end)", "(begin, end)"),
    (DbSync, "changes", "(begin, sync, end)", "(begin, sync)"),
    (Endpoint, "make", "region_id=context.site.region", 'region_id="RegionTwo"'),
    (Endpoint, "make", "interface=interface", 'interface="public"'),
    (Endpoint, "_url", "self.admin_url or self.url", "self.url"),
    (Endpoint, "_service", "self.description", "self.name"),
    (ServiceUser, "make", "context.site.password(self.name)", 'context.site.password("admin")'),
    (ServiceUser, "make", "identity.assign_project_role_to_user(project, user, found)", "pass"),
    (ServiceUser, "make", 'identity.assign_system_role_to_user(user, found, "all")', "pass"),
    (DomainAdmin, "make", 'find_role("admin"', 'find_role("member"'),
    (DomainAdmin, "make", "domain_id=domain.id, password", 'domain_id="default", password'),
    (RoleAssignment, "make", "find_project(self.project", 'find_project("admin"'),
    (Project, "make", "description=self.description)", 'description="")'),
    (Bootstrap, "changes", 'context.site.password("admin")', 'context.site.password("keystone database")'),
    (Bootstrap, "changes", "context.site.region", '"RegionTwo"'),
    (RabbitUser, "changes", 'f"{self.name} rabbitmq"', "self.name"),
    (RabbitUser, "changes", "**_PERMISSIONS}", '**_PERMISSIONS, "write": ""}'),
    (NoRabbitUser, "changes", '"delete_user"', '"clear_password"'),
    (IniFile, "changes", "ini_text.edit(before, wanted, self.own)", "ini_text.edit(before, wanted, ())"),
    (IniFile, "changes", "text = resolve(value, context)", 'text = resolve(value, context) and "1"'),
    (Service, "changes", 'Systemctl("enable"', 'Systemctl("unmask"'),
    (Service, "changes", 'Systemctl("restart"', 'Systemctl("stop"'),
    (Service, "changes", "if late or pending:", "if False:"),
    (Unwanted, "changes", 'Systemctl("mask"', 'Systemctl("stop"'),
    (Packages, "changes", "tuple(missing)", "tuple(missing[1:])"),
    (Lines, "_edit", "(line for line in self.lines if line not in there)", "self.lines[1:]"),
    (File, "changes", "Write(path, self.content", "Write(path, self.content[:-2]"),
    (File, "changes", "self.mode", "0o666"),
    (Directory, "changes", "self.mode", "0o777"),
    (Directory, "changes", "self.owner", '"nobody"'),
    (YamlFile, "changes", "self.group)", '"root")'),
    (PythonSettings, "changes", "Write(path, after", "Write(path, before"),
    (Command, "changes", "self.user", '""'),
    (Command, "changes", 'found["status"] == 0', 'found["status"] != 0'),
    (Command, "changes", "self.stdin", '""'),
    (Network, "make", "is_router_external=self.external", "is_router_external=False"),
    (Network, "make", "shared=self.shared", "shared=True"),
    (Subnet, "_wanted", "[str(each) for each in network.dns]", "[]"),
    (Subnet, "_wanted", "str(network.gateway)", "None"),
    (SecurityGroup, "make", 'direction="ingress"', 'direction="egress"'),
    (SecurityGroup, "make", "remote_ip_prefix=self.source", 'remote_ip_prefix="0.0.0.0/0"'),
    (ServicePort, "make", "device_owner=self.owner", 'device_owner=""'),
    (Flavor, "make", "ram=self.ram", "ram=self.disk"),
    (Flavor, "make", 'options["is_public"] = False', "pass"),
    (OvsBridge, "changes", '"add-port", self.name', '"add-port", "br-int"'),
    (Ring, "changes", "str(self.replicas)", '"3"'),
    (Ring, "changes", '("rebalance",) if moves else ("write_ring",)', '("write_ring",)'),
    (VolumeGroup, "changes", '("pvcreate", device)', '("pvcreate", "--yes", device)'),
    (Xfs, "changes", "*force, ", '"-f", '),
    (Mounted, "changes", '("mount", self.path)', '("mount", self.device)'),
]
"""Class, method, an expression in it, and its replacement."""


@contextmanager
def wrong_code(owner: type[Any], method: str, old: str, new: str) -> Iterator[None]:
    """Replace `old` with `new` in the method within this context."""
    function = owner.__dict__[method]
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) >= 1, f"{owner.__name__}.{method} has no {old}"
    names: dict[str, Any] = {}
    code = compile(f"from __future__ import annotations\n{source.replace(old, new)}", "<mutant>", "exec")
    exec(code, function.__globals__ | {"__name__": function.__module__}, names)
    setattr(owner, method, names[method])
    try:
        yield
    finally:
        setattr(owner, method, function)

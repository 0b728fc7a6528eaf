"""One function for each kind of fact: whether the steps of a chapter make on a node what the fact says."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stackspec.openstack import Bootstrap, Id, Image, RegisteredLimit
from stackspec.openstack.rabbitmq import password_hash
from stackspec.resources import (
    Directory,
    File,
    IniFile,
    Lines,
    Packages,
    PythonSettings,
    Reference,
    Service,
    Venv,
    Xfs,
    YamlFile,
)
from stackspec.resources.base import resolve

from .bare import context
from .guide_plan import Part

Fact = dict[str, Any]
_NOTHING = object()
REFERENCES = {
    "id of the public image endpoint": Id("endpoint", "image/public"),
    "openstack project show service -c id -f value": Id("project", "service"),
    "openstack security group show lb-mgmt-sec-grp -c id -f value": Id("security_group", "lb-mgmt-sec-grp"),
    "openstack network show lb-mgmt-net -c id -f value": Id("network", "lb-mgmt-net"),
}
"""What the facts say in words -> the reference that a step declares."""


def _package(fact: Fact, part: Part) -> bool:
    if fact.get("manager") == "pip":
        return any(fact["name"] in each.requirements for each in part.of(Venv))
    return any(fact["name"] in each.real_names(part.site) for each in part.of(Packages))


def _ini(fact: Fact, part: Part) -> bool:
    section, key = fact["section"], fact["key"]
    files = [each for each in part.of(IniFile) if part.site.release.path(each.path) == fact["file"]]
    found = [each.options[section][key] for each in files if key in each.options.get(section, {})]
    if fact.get("absent"):
        return all(value is None for value in found) if found else any(section in each.own for each in files)
    if not found:
        return False
    # What the guide looked up in its own cloud is looked up here as well (erratum E130).
    wanted = REFERENCES.get(fact.get("lookup", fact["value"]), fact["value"])
    here = context(part.site, part.node)
    return (found[-1] if isinstance(found[-1], Reference) else resolve(found[-1], here)) == wanted


def _file(fact: Fact, part: Part) -> bool:
    for each in part.of(File, Lines):
        if part.site.release.path(each.path) == fact["path"]:
            lines = each.lines if isinstance(each, Lines) else each.content.splitlines()
            gone = fact.get("replaces")
            takes_out = not gone or (isinstance(each, Lines) and re.match(each.replaces, gone))
            if takes_out and {_with_disks(line, part) for line in fact["contains"]} <= set(lines):
                return True
    return False


def _with_disks(text: str, part: Part) -> str:
    """`text` with the UUID of a file system where it says <UUID of DEVICE>: each node has its own."""
    uuids = {each.device: each.uuid for each in part.of(Xfs)}
    return re.sub(r"<UUID of ([^>]+)>", lambda match: uuids.get(match[1], match[0]), text)


def _directory(fact: Fact, part: Part) -> bool:
    wanted = Directory(fact["path"], int(fact["mode"], 8), fact["owner"], fact["group"])
    return wanted in part.of(Directory)


def _setting(fact: Fact, part: Part) -> bool:
    """A value in a file of nested settings, which `key` names with dots between."""
    found: list[Any] = []
    for each in part.of(PythonSettings, YamlFile):
        if part.site.release.path(each.path) == fact["file"]:
            value: Any = each.settings
            for name in fact["key"].split("."):
                value = value.get(name, _NOTHING) if isinstance(value, Mapping) else _NOTHING
            found.append(value)
    wanted = _NOTHING if fact.get("absent") else fact["value"]
    return bool(found) and found[-1] == wanted


def _unit(fact: Fact, part: Part) -> bool:
    """Enabled; for a restart also started anew when a file changes that the step wrote before."""
    managed = False
    for each in part.resources:
        if isinstance(each, Service) and fact["name"].removesuffix(".service") in each.units(part.site):
            reads = managed if each.reads is None else any(path.startswith("/") for path in each.reads)
            if fact["action"] == "enable" or reads:
                return True
        managed |= bool(each.paths(part.site))
    return False


def _sql(part: Part, statement: str) -> bool:
    return any(statement in line for each in part.commands for line in str(each.get("stdin")).splitlines())


def _database(fact: Fact, part: Part) -> bool:
    return _sql(part, f"CREATE DATABASE IF NOT EXISTS `{fact['name']}`;")


def _grant(fact: Fact, part: Part) -> bool:
    account = f"'{fact['user']}'@'{fact['host']}'"
    login = _sql(part, f"ALTER USER {account} IDENTIFIED BY '{fact['password']}';")
    return login and _sql(part, f"GRANT {fact['privileges']} PRIVILEGES ON `{fact['database']}`.* TO {account};")


def _definitions(part: Part) -> dict[str, Any]:
    """What the queue is given: the file that is written and then imported."""
    written = {each["path"]: each["content"] for each in part.actions if each["op"] == "write"}
    for each in part.commands:
        if list(each["argv"][:1]) == ["rabbitmqctl"] and "import_definitions" in each["argv"]:
            found: dict[str, Any] = json.loads(written[each["argv"][-1]])
            return found
    return {}


def _rabbit_user(fact: Fact, part: Part) -> bool:
    for each in _definitions(part).get("users", ()):
        salt = base64.b64decode(each["password_hash"])[:4]
        if each["name"] == fact["name"]:
            return each["password_hash"] == password_hash(fact["password"], salt)
    return False


def _rabbit_permissions(fact: Fact, part: Part) -> bool:
    wanted = {key: fact[key] for key in ("user", "vhost", "configure", "write", "read")}
    return wanted in _definitions(part).get("permissions", ())


def _command(fact: Fact, part: Part) -> bool:
    argv = shlex.split(re.sub(r"<UUID of [^>]+>", lambda match: _with_disks(match[0], part), fact["run"]))
    if "cwd" in fact:
        # Where the guide changes the directory, the first file has its whole path.
        argv[1] = f"{fact['cwd']}/{argv[1]}"
    if argv[0] == "wget":
        return any(part.site.inventory.images[each.name].source == argv[1] for each in part.of(Image))
    if argv[:2] == ["keystone-manage", "bootstrap"]:
        return _bootstrap(part, argv)
    for each in part.commands:
        found = list(each["argv"])
        if argv[0] == "ovs-vsctl" == found[0]:
            # One call does all of it: the guide's words stand in it one after the other, among options.
            rest = argv[1:]
            if any(found[place : place + len(rest)] == rest for place in range(len(found))):
                return True
        elif [word for word in found if word != "-y"] == argv and each.get("user", "") == fact.get("as_user", ""):
            return True
    return False


def _bootstrap(part: Part, argv: list[str]) -> bool:
    """The same options; the password is in the environment, where the process list does not show it (E11)."""
    wanted = dict(zip(argv[2::2], argv[3::2], strict=True))
    password = wanted.pop("--bootstrap-password", "")
    for each in part.commands:
        if list(each["argv"][:2]) == argv[:2]:
            found = dict(zip(each["argv"][2::2], each["argv"][3::2], strict=True))
            return found == wanted and each["env"] == {"OS_BOOTSTRAP_PASSWORD": password}
    return False


def _keystone_user(fact: Fact, part: Part) -> bool:
    if fact["name"] == "admin":
        return any(each.get("env", {}).get("OS_BOOTSTRAP_PASSWORD") == fact["password"] for each in part.commands)
    return part.called("create_user", name=fact["name"], password=fact["password"], domain_id=fact["domain"])


def _keystone_project(fact: Fact, part: Part) -> bool:
    named = {"name": fact["name"], "domain_id": fact["domain"]}
    return part.called("create_project", description=fact["description"], **named)


def _role_assignment(fact: Fact, part: Part) -> bool:
    user, role = fact["user"], fact["assigned_role"]
    if "system" in fact:
        return part.assigned("assign_system_role_to_user", user, role, fact["system"])
    if "domain" in fact:
        return part.assigned("assign_domain_role_to_user", user, role, fact["domain"])
    return part.assigned("assign_project_role_to_user", user, role, fact["project"])


def _keystone_role(fact: Fact, part: Part) -> bool:
    return part.called("create_role", name=fact["name"])


def _keystone_domain(fact: Fact, part: Part) -> bool:
    return part.called("create_domain", name=fact["name"], description=fact["description"])


def _service(fact: Fact, part: Part) -> bool:
    return part.called("create_service", **{key: fact[key] for key in ("name", "type", "description")})


def _endpoint(fact: Fact, part: Part) -> bool:
    if fact["service_type"] == "identity":
        words = {f"--bootstrap-{fact['interface']}-url": fact["url"], "--bootstrap-region-id": fact["region"]}
        argvs = [list(each["argv"]) for each in part.commands if part.of(Bootstrap)]
        return any(words.items() <= dict(zip(argv[2::2], argv[3::2], strict=False)).items() for argv in argvs)
    wanted = {"interface": fact["interface"], "url": fact["url"], "region_id": fact["region"]}
    service = ""
    for name, _, kwargs in part.calls:
        if name == "create_service":
            # Its endpoints are made next, before those of another.
            service = kwargs["type"]
        elif name == "create_endpoint" and service == fact["service_type"] and wanted.items() <= kwargs.items():
            return True
    return False


def _object(fact: Fact, part: Part) -> bool:
    inventory = part.site.inventory
    if fact["type"] == "node":
        # The table's disks are what the machines have; no chapter here does anything with them.
        found = part.site.nodes.get(fact["name"])
        addresses = (fact["management_ip"], fact["external_ip"])
        return found is not None and (found.address, str(found.provider.address)) == addresses
    if fact["type"] == "registered_limit":
        types = {kwargs["name"]: kwargs["type"] for name, _, kwargs in part.calls if name == "create_service"}
        limit = RegisteredLimit(types.get(fact["service"], ""), fact["name"], fact["default_limit"])
        return limit in part.of(RegisteredLimit) and inventory.region == fact["region"]
    if fact["type"] == "image":
        uploaded = next((each for each in part.of(Image) if each.name == fact["name"]), None)
        if uploaded is None:
            return False
        image = uploaded.image
        found_image = (Path(image.source).name, image.disk_format, image.visibility)
        wanted_image = (Path(fact["file"]).name, fact["disk_format"], fact["visibility"])
        return found_image == wanted_image and ("tag" not in fact or uploaded.tags == (fact["tag"],))
    if fact["type"] in SIMPLE_OBJECTS:
        return SIMPLE_OBJECTS[fact["type"]](fact, part)
    if fact["type"] == "network" and "external" not in fact:
        return part.called("create_network", name=fact["name"])
    if fact["type"] == "subnet" and "allocation_start" in fact:
        pool = {"start": fact["allocation_start"], "end": fact["allocation_end"]}
        wanted = {"name": fact["name"], "cidr": fact["subnet_range"], "allocation_pools": [pool]}
        return part.called("create_subnet", **wanted, **_given(fact, gateway="gateway_ip"))
    if fact["type"] == "network":
        keys = ("name", "provider_physical_network", "provider_network_type")
        options = {"is_router_external": fact["external"], "shared": fact["share"]}
        return part.called("create_network", **{key: fact[key] for key in keys}, **options)
    if fact["type"] == "subnet":
        start, end = re.fullmatch(r"start=(.+),end=(.+)", fact["allocation_pool"]).groups()  # type: ignore[union-attr]
        return part.called(
            "create_subnet",
            name=fact["name"],
            cidr=fact["subnet_range"],
            allocation_pools=[{"start": start, "end": end}],
            dns_nameservers=[fact["dns_nameserver"]],
            gateway_ip=fact["gateway"],
        ) and part.called("create_subnet", network_id=fact["network"])
    return False


def _given(fact: Fact, **names: str) -> dict[str, Any]:
    """Attributes of the fact under the names that the call has for them."""
    return {name: fact[key] for key, name in names.items() if key in fact}


def _flavor(fact: Fact, part: Part) -> bool:
    keys = {key: key for key in ("name", "vcpus", "ram", "disk")}
    return part.called("create_flavor", **_given(fact, **keys, flavor_id="id", public="is_public"))


def _keypair(fact: Fact, part: Part) -> bool:
    made = [kwargs for name, _, kwargs in part.calls if name == "create_keypair" and kwargs["name"] == fact["name"]]
    return any(each["public_key"].startswith("ssh-") for each in made)


def _security_group(fact: Fact, part: Part) -> bool:
    return part.called("create_security_group", name=fact["name"])


def _security_group_rule(fact: Fact, part: Part) -> bool:
    wanted = {"protocol": fact["protocol"], "direction": "ingress"}
    wanted |= _given(fact, dst_port="port_range_min", source="remote_ip_prefix")
    group = ""
    for name, _, kwargs in part.calls:
        if name == "create_security_group":
            # Its rules are made next.
            group = kwargs["name"]
        elif name == "create_security_group_rule" and group == fact["group"] and wanted.items() <= kwargs.items():
            return True
    return False


def _port(fact: Fact, part: Part) -> bool:
    host = part.node.name if fact["host"] == "$(hostname)" else fact["host"]
    return any(
        name == "create_port"
        and kwargs["name"] == fact["name"]
        and (kwargs["network_id"], kwargs["security_group_ids"]) == (fact["network"], [fact["security_group"]])
        and (kwargs["device_owner"], kwargs["binding_host_id"]) == (fact["device_owner"], host)
        and [each["ip_address"] for each in kwargs["fixed_ips"]] == [fact["fixed_ip"]]
        for name, _, kwargs in part.calls
    )


SIMPLE_OBJECTS: dict[str, Callable[[Fact, Part], bool]] = {
    "flavor": _flavor,
    "keypair": _keypair,
    "security_group": _security_group,
    "security_group_rule": _security_group_rule,
    "port": _port,
}


def _verify(fact: Fact, part: Part) -> bool:
    """Never so without nodes: an entry of deliberate.yaml names the test that looks."""
    return False


KINDS: dict[str, Callable[[Fact, Part], bool]] = {
    "package": _package,
    "ini": _ini,
    "file": _file,
    "directory": _directory,
    "setting": _setting,
    "unit": _unit,
    "database": _database,
    "grant": _grant,
    "rabbit_user": _rabbit_user,
    "rabbit_permissions": _rabbit_permissions,
    "command": _command,
    "keystone_user": _keystone_user,
    "keystone_project": _keystone_project,
    "keystone_role": _keystone_role,
    "keystone_domain": _keystone_domain,
    "role_assignment": _role_assignment,
    "service": _service,
    "endpoint": _endpoint,
    "object": _object,
    "verify": _verify,
}

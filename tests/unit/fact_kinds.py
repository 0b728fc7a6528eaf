"""One function for each kind of fact: whether the steps of a chapter do on a node what the fact says."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from stackspec.openstack import Bootstrap, Database, Id, Image, RegisteredLimit
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
    ini_text,
)
from stackspec.resources.base import resolve

from .bare import context
from .guide_node import ovs_calls
from .guide_plan import Part
from .guide_reads import reads_of

Fact = dict[str, Any]
_NOTHING = object()
REFERENCES = {
    "id of the public image endpoint": Id("endpoint", "image/public"),
    "openstack project show service -c id -f value": Id("project", "service"),
    "openstack security group show lb-mgmt-sec-grp -c id -f value": Id("security_group", "lb-mgmt-sec-grp"),
    "openstack network show lb-mgmt-net -c id -f value": Id("network", "lb-mgmt-net"),
}
"""Words in the facts -> the reference that a step declares."""


def _names(fact: Fact) -> list[str]:
    """The fact's name, or the names that a release uses for it."""
    return list(fact.get("names", [fact["name"]]))


def _package(fact: Fact, part: Part) -> bool:
    if fact.get("manager") == "pip":
        return any(fact["name"] in each.requirements for each in part.of(Venv))
    declared = {name for each in part.of(Packages) for name in each.real_names(part.site)}
    return set(_names(fact)) <= declared & part.after.packages


def _ini(fact: Fact, part: Part) -> bool:
    """The chapter sets the option, and no later step overrides it."""
    section, key = fact["section"], fact["key"]
    files = [each for each in part.of(IniFile) if part.site.release.path(each.path) == fact["file"]]
    found = [each.options[section][key] for each in files if key in each.options.get(section, {})]
    after = options_of(part.after.files.get(fact["file"], {}).get("content", "")).get(section, {}).get(key)
    if fact.get("absent"):
        here = all(value is None for value in found) if found else any(section in each.own for each in files)
        return here and after is None
    if not found:
        return False
    # Values that the guide looked up in its own cloud are looked up here as well (erratum E130).
    wanted: Any = REFERENCES.get(fact.get("lookup", str(fact["value"])), fact["value"])
    if isinstance(found[-1], Reference):
        return found[-1] == wanted and after is None
    return bool(resolve(found[-1], context(part.site, part.node)) == wanted == after)


@cache
def options_of(text: str) -> dict[str, dict[str, str]]:
    """The sections and options of an ini file."""
    return ini_text.read(text)


def _file(fact: Fact, part: Part) -> bool:
    """The chapter writes these lines in this order, they are in the final file, and the lines they replace are not."""
    wanted = [with_disks(line, part) for line in fact["contains"]]
    after = str(part.after.files.get(fact["path"], {}).get("content", "")).splitlines()
    files: list[File | Lines] = [*part.of(File), *part.of(Lines)]
    for each in files:
        if part.site.release.path(each.path) == fact["path"]:
            lines = each.lines if isinstance(each, Lines) else each.content.splitlines()
            if _in_order(wanted, lines):
                return _in_order(wanted, after) and (not fact.get("replaces") or fact["replaces"] not in after)
    return False


def _in_order(wanted: Iterable[str], lines: Iterable[str]) -> bool:
    """Whether `lines` contains all of `wanted` in this order."""
    rest = iter(lines)
    return all(line in rest for line in wanted)


def with_disks(text: str, part: Part) -> str:
    """`text` with <UUID of DEVICE> replaced by the UUID of the file system: each node has its own."""
    uuids = {each.device: each.uuid for each in part.of(Xfs)}
    return re.sub(r"<UUID of ([^>]+)>", lambda match: uuids.get(match[1], match[0]), text)


def _directory(fact: Fact, part: Part) -> bool:
    path, mode = fact["path"], int(fact["mode"], 8)
    after = part.after.files.get(path, {})
    is_so = (after.get("kind"), after.get("mode"), after.get("owner"), after.get("group"))
    return Directory(path, mode, fact["owner"], fact["group"]) in part.of(Directory) and is_so == (
        "directory",
        mode,
        fact["owner"],
        fact["group"],
    )


def _setting(fact: Fact, part: Part) -> bool:
    """A value in a file of nested settings, with `key` as dotted path; no later step writes that file."""
    found: list[Any] = []
    files: list[PythonSettings | YamlFile] = [*part.of(PythonSettings), *part.of(YamlFile)]
    here = [each for each in files if part.site.release.path(each.path) == fact["file"]]
    for each in here:
        value: Any = each.settings
        for name in fact["key"].split("."):
            value = value.get(name, _NOTHING) if isinstance(value, Mapping) else _NOTHING
        found.append(value)
    wanted = _NOTHING if fact.get("absent") else fact["value"]
    # True equals 1 in Python, but not in a file.
    same = bool(found) and found[-1] == wanted and type(found[-1]) is type(wanted)
    return same and _writer(part, fact["file"]) in here


def _writer(part: Part, path: str) -> Any:
    """The last resource that wrote a file."""
    writers = [each.resource for each in part.after.done if each.action.get("path") == path]
    return writers[-1] if writers else None


def _unit(fact: Fact, part: Part) -> bool:
    """The unit runs and starts at boot after all steps; for a restart, with the final content of its files.

    It restarts whenever the chapter changes one of these files.
    """
    names = [name.removesuffix(".service") for name in _names(fact)]
    states = [part.after.units.get(name) for name in names]
    if not all(state and (state["active"], state["enabled"]) == ("active", "enabled") for state in states):
        return False
    reads = {name: services_of(part, name) for name in names}
    if not all(reads.values()):
        return False
    if fact["action"] not in ("restart", "reload"):
        return True
    files = {part.site.release.path(path) for path in reads_of(fact["id"])}
    written = [part.after.files[path]["mtime"] if path in part.after.files else math.inf for path in files]
    started = min(_started(part, name) for name in names)
    return max(written, default=0.0) < started and all(any(files <= each for each in found) for found in reads.values())


def _started(part: Part, name: str) -> float:
    """When the chapter started a unit; if it did not because nothing had changed, when it was first started."""
    starts = [each.place for each in part.done if each.action.get("verb") == "restart" and name in each.action["units"]]
    return float(starts[-1] if starts else part.after.units[name]["started"])


def services_of(part: Part, name: str) -> list[set[str]]:
    """For each declaration of a unit by the chapter, the files whose changes restart it."""
    found = []
    for step in part.steps:
        managed: set[str] = set()
        for each in part.here.steps.get(step, ()):
            if isinstance(each, Service) and name in each.units(part.site):
                found.append(set(managed if each.reads is None else each.reads))
            managed.update(each.paths(part.site))
    return found


def _database(fact: Fact, part: Part) -> bool:
    return fact["name"] in part.after.sql.made and any(each.name == fact["name"] for each in part.of(Database))


def _grant(fact: Fact, part: Part) -> bool:
    account = f"'{fact['user']}'@'{fact['host']}'"
    sql = part.after.sql
    declared = any(
        (each.name, each.user or each.name) == (fact["database"], fact["user"]) for each in part.of(Database)
    )
    granted = (fact["privileges"], f"`{fact['database']}`.*", account) in sql.grants
    return declared and granted and sql.accounts.get(account) == fact["password"]


def _definitions(part: Part) -> dict[str, Any]:
    """The definitions sent to the queue: the file that is written and then imported."""
    written: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for each in part.after.done:
        if each.action["op"] == "write":
            written[each.action["path"]] = each.action["content"]
        elif each.action["op"] == "command" and "import_definitions" in each.action["argv"]:
            found = json.loads(written[each.action["argv"][-1]])
    return found


def _rabbit_user(fact: Fact, part: Part) -> bool:
    for each in _definitions(part).get("users", ()):
        salt = base64.b64decode(each["password_hash"])[:4]
        if each["name"] == fact["name"]:
            return bool(each["password_hash"] == password_hash(fact["password"], salt))
    return False


def _rabbit_permissions(fact: Fact, part: Part) -> bool:
    wanted = {key: fact[key] for key in ("user", "vhost", "configure", "write", "read")}
    return wanted in _definitions(part).get("permissions", ())


def _command(fact: Fact, part: Part) -> bool:
    argv = argv_of(fact, part)
    if argv[0] == "wget":
        return any(each.image.source == argv[1] for each in part.of(Image))
    return place_of(fact, part) > 0


def argv_of(fact: Fact, part: Part) -> list[str]:
    """The argument vector of a fact's command."""
    argv = shlex.split(re.sub(r"<UUID of [^>]+>", lambda match: with_disks(match[0], part), fact["run"]))
    if "cwd" in fact:
        # Where the guide changes the directory, the first file has its absolute path.
        argv[1] = f"{fact['cwd']}/{argv[1]}"
    return argv


def place_of(fact: Fact, part: Part) -> int:
    """Position of the fact's command in the order of everything done on the node; 0 if it is not run."""
    argv = argv_of(fact, part)
    for each in part.commands:
        found = [str(word) for word in each.action["argv"]]
        if argv[:2] == ["keystone-manage", "bootstrap"]:
            same = found[:2] == argv[:2] and _same_bootstrap(each.action, argv)
        elif argv[0] == "ovs-vsctl" == found[0]:
            # One call does all of them.
            same = ovs_calls(argv) <= ovs_calls(found)
        else:
            same = [word for word in found if word != "-y"] == argv
            same = same and each.action.get("user", "") == fact.get("as_user", "")
        if same:
            return each.place
    return 0


def _same_bootstrap(action: dict[str, Any], argv: list[str]) -> bool:
    """Whether the options are equal; the password is in the environment, hidden from the process list (E11)."""
    wanted = dict(zip(argv[2::2], argv[3::2], strict=True))
    password = wanted.pop("--bootstrap-password", "")
    found = dict(zip(action["argv"][2::2], action["argv"][3::2], strict=True))
    return found == wanted and action["env"] == {"OS_BOOTSTRAP_PASSWORD": password}


def _keystone_user(fact: Fact, part: Part) -> bool:
    if fact["name"] == "admin":
        return any(
            each.action.get("env", {}).get("OS_BOOTSTRAP_PASSWORD") == fact["password"] for each in part.commands
        )
    wanted = {"name": fact["name"], "password": fact["password"], "domain_id": fact["domain"]}
    return part.called("create_user", "name", "domain_id", **wanted)


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
        argvs = [list(each.action["argv"]) for each in part.commands if part.of(Bootstrap)]
        return any(words.items() <= dict(zip(argv[2::2], argv[3::2], strict=False)).items() for argv in argvs)
    wanted = {"interface": fact["interface"], "url": fact["url"], "region_id": fact["region"]}
    service, found = "", []
    for name, _, kwargs in part.calls:
        if name == "create_service":
            # Its endpoints are created next, before those of another service.
            service = kwargs["type"]
        elif name == "create_endpoint" and (service, kwargs["interface"]) == (fact["service_type"], fact["interface"]):
            found.append(wanted.items() <= kwargs.items())
    # The last one wins.
    return bool(found) and found[-1]


def _object(fact: Fact, part: Part) -> bool:
    inventory = part.site.inventory
    if fact["type"] == "node":
        # The table's disks are hardware; no chapter here changes them.
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
    """Attributes of the fact, renamed to the arguments of the call."""
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
            # Its rules are created next.
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
    """Never true without nodes: an entry of deliberate.yaml names the test that checks it."""
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

"""Which part of the suite may import which: the rooms of docs/architecture.md, each with its allowed imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"stackspec": "stackspec", "deploy_steps": "stackspec.steps"}
"""Folders of the clone, and their package names."""
CLIENTS = ("openstack", "keystoneauth1", "swiftclient")
PYTEST = ("pytest", "_pytest", "xdist", "testinfra")


@dataclass(frozen=True)
class Room:
    """Modules that belong together.

    :param modules: patterns of their names without `stackspec.`
    :param knows: other rooms that they may import
    :param libraries: members of CLIENTS and PYTEST that they may import
    """

    modules: str
    knows: str = ""
    libraries: tuple[str, ...] = ()


ROOMS = {
    # What everybody may use, and what knows nothing of sites.
    "tools": Room(
        "|errors|secrets|lines|yaml_file|lock|pace|waiting|image_format|masking|certificates|suite",
    ),
    # The engine: a site is planned, changed and looked at.
    "core": Room(
        r"site|inventory|release|release_check|step|task|engine|schedule|precheck|transport|node_connections"
        r"|ledger|names|store|wheels|ports|schema"
        r"|node_agent(\..+)?"
        r"|resources(\..+)?",
        "tools",
    ),
    # The port Cloud.
    "openstack": Room(r"openstack(\..+)?|which_cloud|cloud_inventory|cloud_options", "tools core", CLIENTS),
    # The port Platform.
    "lab": Room(r"lab(\..+)?", "tools core"),
    # What a run leaves behind, read without it.
    "report": Room(r"report(\..+)?", "tools core"),
    "reach": Room("reach", "tools core lab"),
    "fault_injection": Room(r"fault_injection(\..+)?", "tools core report"),
    # The only one that knows pytest's items and its stash: it wires the others.
    "plugin": Room(
        r"plugin(\..+)?",
        "tools core openstack reach report",
        PYTEST,
    ),
    "commands": Room(r"commands(\..+)?", "tools core openstack lab reach report fault_injection", CLIENTS),
    "steps": Room(r"steps(\..+)?", "tools core openstack"),
    "fixtures": Room(r"fixtures(\..+)?", "tools core openstack lab plugin report", (*CLIENTS, *PYTEST)),
}
SERVICES = (
    "keystone|glance|placement|nova|neutron|horizon|cinder|swift|heat|skyline|barbican|octavia|magnum|"
    "mariadb|rabbitmq|vxlan"
)
KNOWN = {
    ("stackspec.plugin.hooks", "stackspec.fixtures"): "pytest's fixtures are plugins, which this one registers by name",
    ("stackspec.step", "stackspec.steps"): "steps register themselves when they are imported; nothing of them is named",
}
"""Existing imports that the table forbids, with the reason."""
CIRCLES: dict[frozenset[str], str] = {}
"""Modules that import each other, with the reason."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the suite except for its tests, by name; a package's name ends with `.__init__`."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "files" in path.parts:
                continue  # installed into an image by the lab
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts))] = ast.parse(path.read_text())
    return found


@cache
def names() -> frozenset[str]:
    """Names of modules as in imports."""
    return frozenset(module.removesuffix(".__init__") for module in modules())


def imports(module: str) -> Iterator[str]:
    """What `module` imports, also inside functions and for types only."""
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for each in node.names:
                whole = f"{base}.{each.name}"
                yield whole if whole in names() else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            # A name that is put together there begins with that of its package.
            text = ast.literal_eval(node.args[0]) if isinstance(node.args[0], ast.Constant) else ""
            yield from [text] if text else []


def rooms_of(module: str) -> list[str]:
    """The rooms that contain a module: exactly one, as `test_every_module_is_in_one_room` proves."""
    name = module.removesuffix(".__init__").removeprefix("stackspec").removeprefix(".")
    return [room for room, each in ROOMS.items() if re.fullmatch(each.modules, name)]


def room_of(module: str) -> str:
    """The room of a module."""
    return rooms_of(module)[0]


def forbidden(module: str) -> set[str]:
    """The imports of `module` that the table forbids."""
    room = room_of(module)
    allowed = {room, *ROOMS[room].knows.split()}
    found = set()
    for name in imports(module):
        if name in names():
            wrong = room_of(name) not in allowed
        else:
            top = name.split(".")[0]
            wrong = top in (*CLIENTS, *PYTEST) and top not in ROOMS[room].libraries
        if wrong:
            found.add(name)
    return found


def cycles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of nodes that reach each other."""
    reached = {}
    for start in graph:
        seen: set[str] = set()
        todo = [start]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        reached[start] = seen
    return {
        frozenset(other for other in graph if other in reached[each] and each in reached[other])
        for each in graph
        if each in reached[each]
    }


def test_every_module_is_in_one_room() -> None:
    for module in modules():
        found = rooms_of(module)
        assert len(found) == 1, f"{module} is in {found or 'no room'}; ROOMS says what each room may import"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_match_the_table(room: str) -> None:
    found = {(each, name) for each in modules() if room_of(each) == room for name in forbidden(each)}
    known = {(each, name) for each, name in KNOWN if room_of(each) == room}
    assert found - known == set(), f"the room {room} may import {ROOMS[room].knows} and {ROOMS[room].libraries}"
    assert known - found == set(), "these are repaired: take them out of KNOWN"


@pytest.mark.parametrize("module", [*(each for each in modules() if room_of(each) == "core"), "stackspec.plugin.hooks"])
def test_core_and_command_line_name_no_service(module: str) -> None:
    found = re.findall(rf"(?<![a-z])({SERVICES})(?![a-z])", ast.unparse(modules()[module]), re.IGNORECASE)
    assert found == [], "what only OpenStack has belongs to the room openstack"


def test_rooms_have_no_import_cycle() -> None:
    assert cycles({room: set(each.knows.split()) for room, each in ROOMS.items()}) == set()


def test_modules_have_no_import_cycle() -> None:
    """Not even inside functions or for types only: each module can be read without the other."""
    graph = {each.removesuffix(".__init__"): {name for name in imports(each) if name in names()} for each in modules()}
    assert {tuple(sorted(each)) for each in cycles(graph)} == {tuple(sorted(each)) for each in CIRCLES}


def test_nested_imports_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def f():\n    import openstack.config\n    from .lab import Lab\n    from . import step\n"
    monkeypatch.setitem(modules(), "stackspec.engine", ast.parse(text))
    assert set(imports("stackspec.engine")) == {"openstack.config", "stackspec.lab", "stackspec.step"}
    assert forbidden("stackspec.engine") == {"openstack.config", "stackspec.lab"}


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset({"b", "c"})}

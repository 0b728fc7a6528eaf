"""Orchestration: engines, invalid templates, previews, stacks without servers, and visibility."""

from __future__ import annotations

from typing import Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.owned import Owned
from stackspec.fixtures.stacks import Stack
from stackspec.waiting import wait_for

STACK_WITHIN = 120
LENGTH = 12
WORD = {
    "heat_template_version": "2018-08-31",
    "parameters": {"length": {"type": "number", "default": LENGTH, "constraints": [{"range": {"min": 1, "max": 64}}]}},
    "resources": {"word": {"type": "OS::Heat::RandomString", "properties": {"length": {"get_param": "length"}}}},
    "outputs": {"word": {"value": {"get_attr": ["word", "value"]}}},
}
"""A template that needs no other service."""


def make_stack(member: Connection, owned: Owned, label: str) -> Stack:
    """A complete stack of the template."""
    return Stack(member, owned(member, "stack", label, template=WORD)).reaches("CREATE_COMPLETE", STACK_WITHIN)


@pytest.fixture(scope="module")
def stack(heat: object, member: Connection, module_owned: Owned) -> Any:
    """A stack for tests that do not modify it."""
    return make_stack(member, module_owned, "word").found


def test_engines_are_up(heat: object, cloud: Connection) -> None:
    """Every engine host has an engine that is up; the guide's `openstack orchestration service list`.

    A killed engine stays in the list as down until another one starts a few minutes later.
    """

    def silent() -> list[str]:
        engines = cloud.orchestration.get("/services").json()["services"]
        assert engines, "heat has no engine"
        up = {each["hostname"] for each in engines if (each["binary"], each["status"]) == ("heat-engine", "up")}
        return [
            f"{each['binary']} of {each['hostname']}: {each['status']}"
            for each in engines
            if each["hostname"] not in up
        ]

    wait_for("all engines of heat are up", lambda: not silent(), 90, detail=lambda: "; ".join(silent()))


def test_engines_are_not_shown_to_members(heat: object, member: Connection) -> None:
    """Only administrators see the hosts of engines."""
    answer = member.orchestration.get("/services")
    assert answer.status_code == 403, f"engines as seen by a member: status {answer.status_code}, expected 403"


def test_valid_template_is_explained(heat: object, member: Connection) -> None:
    """The response lists the parameters."""
    found = member.orchestration.validate_template(WORD)
    assert found.parameters["length"]["Default"] == LENGTH


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        pytest.param({"a": {"type": "OS::No::Such"}}, "OS::No::Such", id="unknown type"),
        pytest.param(
            {"a": {"type": "OS::Heat::RandomString", "properties": {"colour": "red"}}}, "colour", id="unknown property"
        ),
        pytest.param({"a": {"type": "OS::Neutron::Subnet"}}, "network", id="missing property"),
        pytest.param(
            {"a": {"type": "OS::Heat::Value", "properties": {"value": {"get_attr": ["b", "value"]}}}},
            '"b"',
            id="unknown resource",
        ),
        pytest.param(
            {
                "a": {"type": "OS::Heat::RandomString", "depends_on": "b"},
                "b": {"type": "OS::Heat::RandomString", "depends_on": "a"},
            },
            "Circular",
            id="circle",
        ),
        pytest.param(
            {"a": {"type": "OS::Heat::RandomString", "properties": {"length": {"get_param": "size"}}}},
            "size",
            id="unknown parameter",
        ),
    ],
)
def test_wrong_template_is_refused(resources: Any, reason: str, heat: object, member: Connection, owned: Owned) -> None:
    """400 with the name of the error, and no stack is left over."""
    template = {"heat_template_version": "2018-08-31", "resources": resources}
    name = owned.name("wrong")
    answer = member.orchestration.post("/stacks", json={"stack_name": name, "template": template})
    if answer.status_code == 201:
        owned.adopt(member, "stack", member.orchestration.get_stack(answer.json()["stack"]["id"]))
    assert answer.status_code == 400, f"stack of a wrong template: status {answer.status_code}, expected 400"
    assert reason in answer.json()["error"]["message"], answer.json()["error"]["message"]
    assert name not in {each.name for each in member.orchestration.stacks()}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        pytest.param({"length": 65}, "out of range", id="out of range"),
        pytest.param({"width": 1}, "width", id="unknown"),
        pytest.param({"length": "long"}, "long", id="no number"),
    ],
)
def test_wrong_parameter_is_refused(
    parameters: dict[str, Any], reason: str, heat: object, member: Connection, owned: Owned
) -> None:
    """400 with the parameter, and no stack is left over."""
    body = {"stack_name": owned.name("wrong"), "template": WORD, "parameters": parameters}
    answer = member.orchestration.post("/stacks", json=body)
    assert answer.status_code == 400, f"stack with {parameters}: status {answer.status_code}, expected 400"
    assert reason in answer.json()["error"]["message"], answer.json()["error"]["message"]


def test_preview_makes_nothing(heat: object, member: Connection, owned: Owned) -> None:
    """A preview shows the resources with their properties, and creates no stack."""
    name = owned.name("preview")
    body = {"stack_name": name, "template": WORD, "parameters": {"length": 5}}
    answer = member.orchestration.post("/stacks/preview", json=body)
    assert answer.status_code == 200, f"preview: {answer.status_code} {answer.text[:200]}"
    (resource,) = answer.json()["stack"]["resources"]
    assert (resource["resource_name"], resource["properties"]["length"]) == ("word", 5)
    assert name not in {each.name for each in member.orchestration.stacks()}


@pytest.mark.parametrize(
    "type_name", ["OS::Nova::Server", "OS::Neutron::FloatingIP", "OS::Heat::WaitCondition", "OS::Heat::SoftwareConfig"]
)
def test_resource_type_is_known(type_name: str, heat: object, member: Connection) -> None:
    """Listed, with a schema of its properties and attributes."""
    names = member.orchestration.get("/resource_types").json()["resource_types"]
    assert type_name in names
    schema = member.orchestration.get(f"/resource_types/{type_name}").json()
    assert schema["resource_type"] == type_name
    assert schema["properties"]
    assert schema["attributes"]


def test_stack_is_listed_with_resources_events_and_outputs(heat: object, member: Connection, stack: Any) -> None:
    """The declared resources exist, each action has an event, and the output is the resource's."""
    assert stack.id in {each.id for each in member.orchestration.stacks()}
    (resource,) = member.orchestration.resources(stack)
    assert (resource.name, resource.resource_type, resource.status) == (
        "word",
        "OS::Heat::RandomString",
        "CREATE_COMPLETE",
    )
    events = [
        (each.resource_name, each.resource_status) for each in member.orchestration.stack_events(stack, attr_name=None)
    ]
    assert ("word", "CREATE_IN_PROGRESS") in events
    assert ("word", "CREATE_COMPLETE") in events
    assert len(Stack(member, stack).outputs()["word"]) == LENGTH


def test_name_is_taken(heat: object, member: Connection, stack: Any) -> None:
    """A duplicate stack name in the project is a conflict."""
    answer = member.orchestration.post("/stacks", json={"stack_name": stack.name, "template": WORD})
    assert answer.status_code == 409, f"second stack {stack.name}: status {answer.status_code}, expected 409"


def test_parameter_is_changed(heat: object, member: Connection, owned: Owned) -> None:
    """An update with a new parameter replaces a resource that cannot be changed in place."""
    made = make_stack(member, owned, "changed")
    before = made.outputs()["word"]
    parameters = {"length": LENGTH + 5}
    member.orchestration.update_stack(made.found.id, name=made.found.name, template=WORD, parameters=parameters)
    after = made.reaches("UPDATE_COMPLETE", STACK_WITHIN).outputs()["word"]
    assert (len(before), len(after)) == (LENGTH, LENGTH + 5)


def test_deleted_stack_is_gone(heat: object, member: Connection, owned: Owned) -> None:
    """A deleted stack is no longer listed, and its name can be reused."""
    made = make_stack(member, owned, "gone").found
    member.orchestration.delete_stack(made.id, ignore_missing=False)
    wait_for(
        f"stack {made.name} is no longer listed",
        lambda: made.id not in {each.id for each in member.orchestration.stacks()},
        STACK_WITHIN,
    )
    answer = member.orchestration.post("/stacks/preview", json={"stack_name": made.name, "template": WORD})
    assert answer.status_code == 200, f"the deleted stack's name: {answer.status_code} {answer.text[:200]}"


def test_stack_is_not_seen_by_another_project(
    heat: object, member: Connection, other_member: Connection, stack: Any
) -> None:
    """Another project cannot list, read, change or delete it."""
    assert stack.id not in {each.id for each in other_member.orchestration.stacks()}
    with pytest.raises((exceptions.NotFoundException, exceptions.ForbiddenException)):
        other_member.orchestration.get_stack(stack.id)
    path = f"/stacks/{stack.name}/{stack.id}"
    for method in ("get", "delete"):
        status = getattr(other_member.orchestration, method)(path).status_code
        assert status in (403, 404), f"{method} of another project's stack: status {status}"
    status = other_member.orchestration.put(path, json={"template": WORD}).status_code
    assert status in (403, 404), f"update of another project's stack: status {status}"
    assert member.orchestration.get_stack(stack.id).status == "CREATE_COMPLETE"

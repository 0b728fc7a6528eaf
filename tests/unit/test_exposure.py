"""Services that only other services use listen on the management network."""

from __future__ import annotations

import pytest

from stackspec.cloud_inventory import load_site
from stackspec.openstack.rabbitmq import ASK
from stackspec.resources import File
from stackspec.resources.actions import Write
from stackspec.resources.base import Resource, file, unit
from stackspec.secrets import redact
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from .bare import RUNNING, context, look, text_file
from .guide_plan import ROOT, guide_site

EPMD = "/etc/systemd/system/epmd.socket.d/stackspec.conf"


def declared(site: Site, step: str) -> list[Resource]:
    load_steps()
    return STEPS[step].resources(site, site.controller)


def written(site: Site, step: str) -> dict[str, str]:
    """The files that a step writes on a bare controller, by path."""
    here = context(site, site.controller)
    changes = [change for each in declared(site, step) if not each.on_runner for change in each.changes(here)]
    return {
        action.path: str(action.content) for change in changes for action in change.actions if isinstance(action, Write)
    }


def test_queue_and_its_port_mapper(site: Site) -> None:
    files = written(site, "rabbitmq")
    assert files["/etc/rabbitmq/rabbitmq.conf"].splitlines() == [
        "listeners.tcp.1 = 10.0.0.10:5672",
        "distribution.listener.interface = 10.0.0.10",
    ]
    lines = files[EPMD].splitlines()
    assert [line for line in lines if line.startswith("ListenStream")] == [
        "ListenStream=",
        "ListenStream=127.0.0.1:4369",
        "ListenStream=10.0.0.10:4369",
    ]


def test_facts_start_no_port_mapper(site: Site) -> None:
    """rabbitmqctl starts one if none runs, for example after a killed run: the socket could not start then."""
    load_steps()
    commands = [
        query.args[0][-1]
        for step in STEPS.values()
        for node in step.nodes(site)
        for each in step.resources(site, node)
        if not each.on_runner
        for query in each.queries(site, node)
        if query.op == "run" and "rabbitmqctl" in query.args[0][-1]
    ]
    assert len(commands) >= 3
    assert [words for words in commands if words.count("rabbitmqctl") != words.count(ASK)] == []
    # And the socket stops one that somebody else has started.
    assert "ExecStartPre=-/usr/bin/epmd -kill" in written(site, "rabbitmq")[EPMD].splitlines()


def test_older_deployment_is_changed_once(site: Site) -> None:
    """The socket and then the server restart after their files were written; then nothing is left to do."""
    resources = [each for each in declared(site, "rabbitmq") if "user" not in each.title]
    conf = "/etc/rabbitmq/rabbitmq.conf"
    units = {unit("epmd.socket"): RUNNING, unit("rabbitmq-server"): RUNNING}
    before = {**units, file(conf): text_file("# mine\nlisteners.tcp.1 = 10.0.0.10:5672\n")}
    titles = [change.title for found in look(site, resources, before) for change in found.changes]
    assert titles[1:] == [
        f"write {EPMD}",
        "restart epmd.socket",
        f"write {conf}",
        "restart rabbitmq-server",
    ]
    after = {**units, **{file(path): text_file(text) for path, text in written(site, "rabbitmq").items()}}
    found = look(site, resources, after)
    assert [change.title for each in found[1:] for change in each.changes] == []


def test_metadata_of_nova(site: Site) -> None:
    """By its own option; under uWSGI by the option of the unit that starts it."""
    (unit_file,) = [each for each in declared(site, "nova") if isinstance(each, File)]
    assert unit_file.path == "/etc/systemd/system/nova-api-metadata.service.d/stackspec.conf"
    assert '"BIND_PARAMS=--freebind --http-socket 10.0.0.10:8775"' in unit_file.content
    assert "metadata_listen = $my_ip" in written(site, "nova")["/etc/nova/nova.conf"]
    guide = guide_site()
    assert not [each for each in declared(guide, "nova") if isinstance(each, File)]
    assert "metadata_listen = $my_ip" in written(guide, "nova")["/etc/nova/nova.conf"]


@pytest.mark.parametrize("inventory", ["lab", "guide"])
def test_command_lines_of_a_node_contain_no_secret(inventory: str, no_traces: None) -> None:
    """Command lines of actions and queries are visible to everybody on the node."""
    load_steps()
    site = load_site(ROOT / "inventories" / inventory)
    words = []
    for step in STEPS.values():
        for node in step.nodes(site):
            here = context(site, node)
            for each in (each for each in step.resources(site, node) if not each.on_runner):
                words += [
                    str(word) for query in each.queries(site, node) if query.op == "run" for word in query.args[0]
                ]
                for action in (action for change in each.changes(here) for action in change.actions):
                    words += [str(word) for word in getattr(action, "argv", ())]
    assert len(words) > 500
    assert redact.values()
    assert [word for word in words if redact(word) != word] == []

"""Barbican on the node: encryption key, database content, running services."""

from __future__ import annotations

import base64

from openstack.connection import Connection

from stackspec.fixtures import programs
from stackspec.fixtures.owned import Owned
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site

PUBLISHED = "dGhpcnR5X3R3b19ieXRlX2tleWJsYWhibGFoYmxhaGg="
"""The published default key-encryption key of the software (erratum E109)."""


def kek(controller: NodeHost) -> str:
    """The key in barbican.conf."""
    return programs.output(controller, "ini_value", "/etc/barbican/barbican.conf", "simple_crypto_plugin", "kek")


def test_the_key_is_the_site_s_own(barbican: object, controller: NodeHost) -> None:
    """The key is 32 random bytes, not the default from the source."""
    found = kek(controller).strip("'")
    assert found != PUBLISHED, "barbican encrypts with its published default key, which protects nothing"
    assert len(base64.urlsafe_b64decode(found)) == 32


def test_secrets_are_encrypted_in_the_database(
    barbican: object, controller: NodeHost, secrets_user: Connection, owned: Owned
) -> None:
    """A database dump contains no payload, neither plain nor in base64."""
    payload = owned.name("plain-as-day")
    owned(secrets_user, "secret", "dumped", payload=payload, payload_content_type="text/plain")
    dump = controller.check_output("mariadb-dump barbican encrypted_data secrets secret_store_metadata")
    assert "encrypted_data" in dump
    assert payload not in dump
    assert base64.b64encode(payload.encode()).decode().rstrip("=") not in dump


def test_worker_consumes_its_queue(barbican: object, controller: NodeHost) -> None:
    """The API passes orders to the worker, which listens for them (the guide disables that)."""
    queues = controller.check_output("rabbitmqctl -q list_queues name consumers < /dev/null").splitlines()
    consumers = dict(line.rsplit("\t", 1) for line in queues if line.startswith("barbican"))
    assert int(consumers.get("barbican.workers", 0)) >= 1, f"queues of barbican: {consumers}"


def test_listener_does_not_run(barbican: object, site: Site, controller: NodeHost) -> None:
    """The listener is off, since keystone sends no notifications (erratum E106)."""
    running = controller.service("barbican-keystone-listener").is_running
    assert not running, f"{site.controller.name}: barbican-keystone-listener runs, but keystone sends nothing to it"

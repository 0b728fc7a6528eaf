"""A server keeps its identity after stop, start, reboot and rebuild."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openstack.connection import Connection

from stackspec.fixtures.guest import Guest
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.image.v2.image import Image

pytestmark = pytest.mark.lane("guests")

MARK = "$HOME/stackspec-mark"


def addresses(guest: Guest) -> set[str]:
    """All addresses shown by nova."""
    return {address["addr"] for network in guest.refresh().addresses.values() for address in network}


def mark(guest: Guest, text: str) -> None:
    """Write a file to the guest's disk."""
    guest.ssh(f"echo {text} >{MARK} && sync")


def marked(guest: Guest) -> str:
    """The text of that file; empty if it does not exist."""
    return guest.ssh(f"cat {MARK} 2>/dev/null", check=False)


def test_stop_and_start(patient: Guest, member: Connection) -> None:
    """A stopped server does not respond; after a start it has its addresses and its disk."""
    boot, before = patient.boot_id(), addresses(patient)
    mark(patient, "before-stop")
    member.compute.stop_server(patient.server)
    patient.restarts()
    patient.wait_status("SHUTOFF")
    assert not patient.can_log_in(), f"{patient.name} is SHUTOFF, but a login to it still works"
    member.compute.start_server(patient.server)
    patient.ready()
    assert patient.boot_id() != boot, "the guest's kernel is the one from before the stop"
    assert addresses(patient) == before, f"addresses: before {before}, after {addresses(patient)}"
    assert marked(patient) == "before-stop", f"the disk lost a file over stop and start: {marked(patient)!r}"


def test_soft_reboot(patient: Guest, member: Connection) -> None:
    """A soft reboot shuts the guest down, and it boots again."""
    _reboot(patient, member, "SOFT")


def test_hard_reboot(patient: Guest, member: Connection) -> None:
    """A hard reboot power-cycles the guest."""
    _reboot(patient, member, "HARD")


def _reboot(patient: Guest, member: Connection, how: str) -> None:
    boot, before = patient.boot_id(), addresses(patient)
    mark(patient, how)
    member.compute.reboot_server(patient.server, how)
    patient.restarts()
    patient.wait_status()
    # After a soft reboot the server may be ACTIVE again while the old kernel still responds.
    wait_for("the guest has rebooted", lambda: patient.boot_id() != boot, 120, every=2, detail=patient.state)
    assert addresses(patient) == before, f"addresses: before {before}, after {addresses(patient)}"
    assert marked(patient) == how, f"the disk lost a file over a {how.lower()} reboot: {marked(patient)!r}"


def test_rebuild_keeps_the_addresses(patient: Guest, member: Connection, guest_image: Image) -> None:
    """A rebuilt server has a new disk from the image, and its name, key and addresses."""
    boot, before = patient.boot_id(), addresses(patient)
    mark(patient, "before-rebuild")
    member.compute.rebuild_server(patient.server, guest_image.id)
    patient.restarts()
    patient.ready()
    assert patient.boot_id() != boot, "the guest's kernel is the one from before the rebuild"
    assert marked(patient) == "", "a file from before the rebuild is still on the disk"
    assert addresses(patient) == before, f"addresses: before {before}, after {addresses(patient)}"
    assert patient.ssh("hostname").split(".")[0] == patient.name

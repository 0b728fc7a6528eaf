"""Horizon in a browser."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.browser import Window
from stackspec.fixtures.connections import Tenant, Tenants, service_types
from stackspec.fixtures.dashboards import ACTIVE_WITHIN, ATTACHED_WITHIN, Horizon, lines_since, shows
from stackspec.fixtures.guest import Guest
from stackspec.fixtures.guest_spec import GuestSpec
from stackspec.fixtures.launcher import launcher
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.screen import CANVAS, NO_TLS, wait_lit
from stackspec.fixtures.topology import Segment, make_routed_segment, open_group
from stackspec.openstack.versions import identity_v3
from stackspec.pace import pace
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.network.v2.network import Network

pytestmark = pytest.mark.lane("dashboards")

NETWORK = ipaddress.IPv4Network("10.201.7.0/24")
LOG = "/var/log/apache2/error.log"
BAD = re.compile("Traceback|Internal Server Error| ERROR | CRITICAL ")
KNOWN_IN_LOG = "Default policy file for load-balancer is not defined"
"""The panel has policy rules without the defaults that horizon compares them with."""


VOLUME_PANELS = {
    *(f"project/{name}/" for name in ("volumes", "snapshots", "volume_groups", "vg_snapshots")),
    *(f"admin/{name}/" for name in ("volumes", "snapshots", "volume_types", "volume_groups", "group_types")),
}
"""Panels for administrators with block storage; backups only if enabled in the settings."""


@pytest.fixture(scope="module")
def tenant(tenants: Tenants) -> Tenant:
    """A project with a user of known password."""
    return tenants.get("horizon")


@pytest.fixture(scope="module")
def segment(tenant: Tenant, module_owned: Owned, external_network: Network) -> Segment:
    """The project's network, with a router to the external network."""
    return make_routed_segment(tenant.connection, module_owned, "horizon", NETWORK, external_network)


@pytest.fixture(scope="module")
def guest(
    horizon_url: str,
    nova_discover: object,
    neutron_compute: object,
    tenant: Tenant,
    segment: Segment,
    module_owned: Owned,
    guest_spec: GuestSpec,
    guest_key: Path,
) -> Guest:
    """A server of the project, which boots during other tests."""
    launch = launcher(tenant.connection, module_owned, guest_spec, guest_key)
    group = open_group(tenant.connection, module_owned, "horizon")
    return launch.start("horizon", launch.port("horizon", segment.network, group))


@pytest.fixture
def inside(window: Window, horizon_url: str, tenant: Tenant) -> Window:
    """A window in which the project's user is logged in."""
    return Horizon(horizon_url).enter(window, tenant)


def test_login_shows_user_project_and_limits(guest: Guest, inside: Window, tenant: Tenant) -> None:
    """After the login the overview shows user, project, and the API's quota and usage."""
    page = inside.page
    inside.picture("project overview")
    header = page.inner_text(".navbar")
    assert tenant.user_name in header, f"not in the header of the page: {header}"
    limits = tenant.connection.compute.get_limits().absolute
    shown = page.inner_text("#content_body")
    for name, limit in (("Instances", limits.instances), ("VCPUs", limits.total_cores)):
        assert re.search(rf"{name}\s+Used 1 of {limit}\b", shown), f"no {name}, 1 of {limit}, on the page:\n{shown}"


def test_wrong_password_is_refused(window: Window, horizon_url: str, tenant: Tenant) -> None:
    """A wrong password shows the login form with the reason."""
    Horizon(horizon_url).sign_in(window, tenant, "wrong")
    window.page.wait_for_selector("text=Invalid credentials.")
    assert "/auth/login" in window.page.url
    window.picture("a wrong password")
    window.page.goto(f"{horizon_url}/project/")
    assert "/auth/login" in window.page.url, "the project's page is shown to somebody who is not logged in"


def test_instance_is_launched_through_the_dialog(
    guest: Guest, inside: Window, horizon_url: str, tenant: Tenant, module_owned: Owned, guest_spec: GuestSpec
) -> None:
    """The launch dialog creates a server with name, image, flavor and network; the table shows it until active."""
    page, name = inside.page, module_owned.name("dialog")
    page.goto(f"{horizon_url}/project/instances/")
    page.click("#instances__action_launch-ng")
    dialog = page.locator(".modal-dialog")
    # A flavor chosen immediately stayed invalid, apparently because its limits loaded later.
    limit = tenant.connection.compute.get_limits().absolute.instances
    dialog.get_by_text(f"({limit} Max)").first.wait_for()
    page.wait_for_load_state("networkidle")
    dialog.locator("input[name=name]").fill(name)
    for place, choice in (("Source", guest_spec.image.name), ("Flavor", guest_spec.flavor.name)):
        dialog.locator(".nav-pills").get_by_text(place, exact=True).click()
        row = dialog.locator(".transfer-available:visible tr", has=page.get_by_text(choice, exact=True))
        row.locator("button.fa-arrow-up").click()
        if place == "Source" and (without := dialog.locator("#vol-create", has_text="No")).is_visible():
            # With block storage the dialog may default to booting from a new volume.
            without.click()
    inside.picture("launch dialog, flavor chosen")
    # The project's only network is preselected.
    dialog.locator("button", has_text="Launch Instance").click()
    row = page.locator("#instances tr", has_text=name)
    row.wait_for()
    server = tenant.connection.compute.find_server(name, ignore_missing=False)
    module_owned.adopt(tenant.connection, "server", server)
    shows(row, "Active", ACTIVE_WITHIN)
    inside.picture("launched instance is active")
    server = tenant.connection.compute.get_server(server.id)
    assert (server.status, server.image.id, server.flavor.name) == (
        "ACTIVE",
        guest_spec.image.id,
        guest_spec.flavor.name,
    )


def test_console_page_shows_the_screen(guest: Guest, inside: Window, horizon_url: str) -> None:
    """The instance's console tab embeds the screen, connected, and it is not black."""
    guest.wait_status()
    inside.known.append(NO_TLS)
    inside.page.goto(f"{horizon_url}/project/instances/{guest.server.id}/?tab=instance_details__console")
    handle = inside.page.wait_for_selector("#console_embed")
    assert handle is not None
    frame = handle.content_frame()
    assert frame is not None
    frame.wait_for_selector(CANVAS)
    wait_lit(frame, guest.state)
    handle.scroll_into_view_if_needed()
    inside.picture("console tab of an instance")


def test_floating_address_is_associated_through_the_dialog(
    guest: Guest, inside: Window, horizon_url: str, external_network: Network, module_owned: Owned
) -> None:
    """A floating address is allocated and assigned to the instance in the dialog; neutron has it at the port."""
    guest.wait_status()
    page, network, name = inside.page, guest.connection.network, module_owned.name("dialog")
    page.goto(f"{horizon_url}/project/instances/")
    row = page.locator(f"#instances__row__{guest.server.id}")
    row.locator(".dropdown-toggle").click()
    row.get_by_text("Associate Floating IP").click()
    page.click(".modal-dialog .ajax-add")
    # The visible list is drawn over the one that is submitted.
    page.select_option("#id_pool", label=external_network.name, force=True)
    page.fill("#id_description", name)
    page.get_by_role("button", name="Allocate IP").click()
    made = wait_for("the address is allocated", lambda: next(network.ips(description=name), None), 60)
    module_owned.adopt(guest.connection, "floating_ip", made)
    address = str(made.floating_ip_address)
    page.locator(".modal-dialog .dropdown-title", has_text=address).wait_for()
    inside.picture("floating address, allocated in the dialog")
    page.get_by_role("button", name="Associate").click()
    wait_for(
        f"the floating address {address} is assigned to the server's port {guest.own_port.id}",
        lambda: network.get_ip(made.id).port_id == guest.own_port.id,
        60,
        detail=lambda: f"its port is {network.get_ip(made.id).port_id}",
    )
    row.get_by_text(address).wait_for()
    inside.picture("floating address, associated")


def test_volume_is_created_attached_and_deleted_through_the_dialogs(
    cinder_volume: object,
    volume_attachment: object,
    disk_guest: Guest,
    window: Window,
    horizon_url: str,
    member_tenant: Tenant,
    module_owned: Owned,
) -> None:
    """Forms create and attach a volume, and its table row matches cinder and nova."""
    disk_guest.wait_status()
    cloud, server, name = member_tenant.connection, disk_guest.server, module_owned.name("dialog")
    page = Horizon(horizon_url).enter(window, member_tenant).page
    page.goto(f"{horizon_url}/project/volumes/")
    page.click("#volumes__action_create")
    page.fill("#id_name", name)
    page.fill("#id_size", "1")
    window.picture("form of a new volume")
    page.get_by_role("button", name="Create Volume").click()
    row = page.locator("#volumes tr", has_text=name)
    row.wait_for()
    volume = module_owned.adopt(cloud, "volume", cloud.block_storage.find_volume(name, ignore_missing=False))
    shows(row, "Available", ACTIVE_WITHIN)

    row.locator(".dropdown-toggle").click()
    row.get_by_text("Manage Attachments").click()
    # The visible list is drawn over the one that is submitted.
    page.select_option("#id_instance", value=server.id, force=True)
    page.get_by_role("button", name="Attach Volume").click()
    shows(row, "In-use", ATTACHED_WITHIN)
    window.picture("the volume is attached")
    assert server.name in row.inner_text()
    assert [each.volume_id for each in cloud.compute.volume_attachments(server)] == [volume.id]

    row.locator(".dropdown-toggle").click()
    row.get_by_text("Manage Attachments").click()
    page.locator("#attachments tbody button", has_text="Detach Volume").click()
    page.locator(".modal-dialog .btn-danger", has_text="Detach Volume").last.click()
    shows(row, "Available", ATTACHED_WITHIN)
    # Nova removes its record slightly after cinder.
    wait_for("nova has no attachment", lambda: not list(cloud.compute.volume_attachments(server)), 60)

    row.locator(".dropdown-toggle").click()
    row.get_by_text("Delete Volume").click()
    page.locator(".modal-dialog .btn-danger", has_text="Delete Volume").click()
    row.wait_for(state="detached", timeout=pace.milliseconds(ACTIVE_WITHIN))
    # The page may leave out a volume that cinder is still deleting.
    wait_for(f"volume {name} is gone", lambda: cloud.block_storage.find_volume(name) is None, ACTIVE_WITHIN)


def test_load_balancers_are_listed(
    octavia_dashboard: object, window: Window, horizon_url: str, member_tenant: Tenant, load_balancer_user: Connection
) -> None:
    """The load balancer panel opens and shows those of the API, even if there are none."""
    page = Horizon(horizon_url).enter(window, member_tenant).page
    balancers = load_balancer_user.load_balancer
    there = {each.name: each.id for each in balancers.load_balancers()}
    window.visit(f"{horizon_url}/project/load_balancer/")
    page.get_by_text("Create Load Balancer").wait_for()
    shown = page.inner_text("#content_body")
    window.picture("load balancers")
    # Ignore those deleted while the page is read.
    stay = there.items() & {each.name: each.id for each in balancers.load_balancers()}.items()
    assert not (missing := [name for name, _ in stay if name not in shown]), f"{missing} are not in:\n{shown}"
    assert there or "No items to display" in shown, shown


@pytest.mark.steps("cinder")
def test_every_panel_opens(
    octavia_dashboard: object, window: Window, horizon_url: str, tenants: Tenants, cloud: Connection, controller: Any
) -> None:
    """Each panel for administrators opens without an error on the page or in the log."""
    before = controller.file(LOG).size
    window.known += Horizon.known
    # Our own administrator: the site's may be shown any project with its role, even one being deleted.
    admin = tenants.get("horizon-admin")
    role = identity_v3(cloud).find_role("admin", ignore_missing=False)
    identity_v3(cloud).assign_project_role_to_user(admin.project_id, admin.user_id, role)
    Horizon(horizon_url).sign_in(window, admin)
    page = window.page
    page.wait_for_selector("#sidebar")
    links = page.eval_on_selector_all("#sidebar a.openstack-panel", "links => links.map(link => link.href)")
    parts = {re.sub(r"^.*/horizon/(\w+)/.*$", r"\1", link) for link in links}
    assert parts == {"project", "admin", "identity"}, f"panels: {links}"
    if "volumev3" in service_types(admin.connection):
        missing = {panel for panel in VOLUME_PANELS if f"{horizon_url}/{panel}" not in links}
        assert not missing, f"not among the panels: {missing}"
    problems = []
    for link in links:
        answer = window.visit(link)
        said = page.locator(".alert-danger:visible").all_inner_texts()
        if answer is None or answer.status != 200 or said:
            problems.append(f"{link}: {answer and answer.status}, {said}")
    assert not problems, "\n".join(problems)
    lines = lines_since(controller, LOG, before)
    assert lines, f"{LOG} does not grow: is it the dashboard's?"
    bad = [line for line in lines if BAD.search(line) and KNOWN_IN_LOG not in line]
    assert not bad, "\n".join(bad)

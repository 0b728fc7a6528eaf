"""Skyline in a browser: the same scenarios as for Horizon."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error, Page

from stackspec.fixtures.block_storage import default_type
from stackspec.fixtures.browser import Window
from stackspec.fixtures.connections import Tenant, Tenants, service_types, with_role
from stackspec.fixtures.dashboards import (
    ACTIVE_WITHIN,
    ATTACHED_WITHIN,
    SHOWN_WITHIN,
    Skyline,
    choose,
    choose_option,
    go_on,
    lines_since,
    row_of,
    shows,
)
from stackspec.fixtures.guest import Guest
from stackspec.fixtures.guest_spec import GuestSpec
from stackspec.fixtures.launcher import launcher
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.screen import CANVAS, wait_lit
from stackspec.fixtures.topology import Segment, make_routed_segment
from stackspec.fixtures.volumes import Volumes
from stackspec.pace import pace
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.network.v2.network import Network

pytestmark = pytest.mark.lane("dashboards")

NETWORK = ipaddress.IPv4Network("10.201.8.0/24")
CLICK = 5
"""Timeout in seconds for a click on an element that may disappear by itself."""


@pytest.fixture(scope="module")
def tenant(tenants: Tenants) -> Tenant:
    """A project with a user of known password."""
    return tenants.get("skyline")


@pytest.fixture(scope="module")
def segment(tenant: Tenant, module_owned: Owned, external_network: Network) -> Segment:
    """The project's network, with a router to the external network."""
    return make_routed_segment(tenant.connection, module_owned, "skyline", NETWORK, external_network)


@pytest.fixture(scope="module")
def guest(
    skyline_url: str,
    nova_discover: object,
    neutron_compute: object,
    nova_networking: object,
    tenant: Tenant,
    segment: Segment,
    module_owned: Owned,
    guest_spec: GuestSpec,
    guest_key: Path,
) -> Guest:
    """A server of the project, which boots during other tests."""
    launch = launcher(tenant.connection, module_owned, guest_spec, guest_key)
    return launch.start("skyline", launch.port("skyline", segment.network, None))


@pytest.fixture
def inside(window: Window, skyline_url: str, tenant: Tenant) -> Window:
    """A window in which the project's user is logged in."""
    return Skyline(skyline_url).enter(window, tenant)


def test_login_shows_user_project_and_limits(guest: Guest, inside: Window, tenant: Tenant) -> None:
    """After the login the overview shows user, project, and the API's quota and usage."""
    page = inside.page
    page.get_by_text(f"Hello, {tenant.user_name}").wait_for()
    limits = tenant.connection.compute.get_limits().absolute

    def shown() -> bool:
        text = " ".join(page.inner_text("#app").split())
        return f"Instances : 1 / {limits.instances}" in text and tenant.user_name in text

    wait_for("usage and quota of instances are shown", shown, SHOWN_WITHIN, detail=lambda: page.inner_text("#app"))
    inside.picture("project overview")
    assert "member" in page.inner_text("#app")


def test_wrong_password_is_refused(window: Window, skyline_url: str, tenant: Tenant) -> None:
    """A wrong password shows the login form with the reason."""
    Skyline(skyline_url).sign_in(window, tenant, "wrong")
    window.page.get_by_text("Username or password is incorrect").wait_for()
    window.picture("a wrong password")
    window.page.goto(f"{skyline_url}/compute/instance")
    window.page.wait_for_url(re.compile("/auth/login"))


def test_instance_is_launched_through_the_dialog(
    guest: Guest,
    inside: Window,
    skyline_url: str,
    tenant: Tenant,
    segment: Segment,
    module_owned: Owned,
    guest_spec: GuestSpec,
) -> None:
    """The dialog creates a server with flavor, image, network, group, name and key; the table shows it until active."""
    page, name = inside.page, module_owned.name("dialog")
    guest.wait_status()
    page.goto(f"{skyline_url}/compute/instance/create")
    # The first zone is preselected; servers without a zone are placed by the scheduler.
    choose_option(page, "availableZone", str(guest.server.availability_zone))
    choose(page, guest_spec.flavor.name)
    page.get_by_text(guest_spec.image.properties.get("os_distro") or "Others", exact=True).click()
    choose(page, guest_spec.image.name)
    if "volumev3" in service_types(tenant.connection):
        # Booting from a new volume is preselected.
        page.get_by_text("No - Do not create a new system disk").click()
    inside.picture("create dialog, flavor and image chosen")
    go_on(page, "Network Config", row_of(page, segment.network.name))
    choose(page, segment.network.name)
    choose(page, "default")
    go_on(page, "System Config", page.locator("#SystemStep_name"))
    page.fill("#SystemStep_name", name)
    choose(page, str(guest.server.key_name))
    go_on(page, "Confirm Config", page.get_by_text("Config Overview"))
    inside.picture("create dialog, about to be confirmed")
    page.get_by_role("button", name="Confirm", exact=True).last.click()
    page.wait_for_url(f"{skyline_url}/compute/instance")
    server = wait_for("nova has the instance", lambda: tenant.connection.compute.find_server(name), SHOWN_WITHIN)
    module_owned.adopt(tenant.connection, "server", server)
    shows(row_of(page, name), "Active", ACTIVE_WITHIN)
    inside.picture("launched instance is active")
    server = tenant.connection.compute.get_server(server.id)
    found = (server.status, server.image.id, server.flavor.name, server.key_name)
    assert found == ("ACTIVE", guest_spec.image.id, guest_spec.flavor.name, guest.server.key_name)


def test_console_page_shows_the_screen(guest: Guest, inside: Window, skyline_url: str) -> None:
    """The console opens in a new page, connected, with a screen that is not black."""
    guest.wait_status()
    page = inside.page
    page.goto(f"{skyline_url}/compute/instance")
    button = row_of(page, guest.name).get_by_role("button", name="Console")
    button.wait_for()
    button.click()
    confirm = page.get_by_role("dialog").get_by_role("button", name="Confirm")
    confirm.wait_for()

    def opened() -> Page | None:
        # A click during the dialog's animation may be lost.
        if confirm.is_visible():
            confirm.click(timeout=pace.milliseconds(CLICK))
        return next((each for each in page.context.pages if each is not page), None)

    console = wait_for("the console's page opens", opened, SHOWN_WITHIN, every=3, retry_on=(Error,))
    console.wait_for_selector(CANVAS)
    wait_lit(console, guest.state)
    inside.picture("console", console)
    console.close()


def test_floating_address_is_associated_through_the_dialog(
    guest: Guest, inside: Window, skyline_url: str, tenant: Tenant, external_network: Network, module_owned: Owned
) -> None:
    """A floating address of the project is assigned to the instance in the dialog; neutron has it at the port."""
    guest.wait_status()
    page = inside.page
    address = module_owned(tenant.connection, "floating_ip", "dialog", floating_network_id=external_network.id)
    page.goto(f"{skyline_url}/compute/instance")
    row_of(page, guest.name).get_by_role("button", name="More").click()
    page.get_by_text("Related Resources").hover()
    page.get_by_text("Associate Floating IP").click()
    dialog = page.get_by_role("dialog")
    dialog.locator("tr", has_text=guest.fixed_address).locator("input").check()
    dialog.locator("tr", has_text=address.floating_ip_address).locator("input").check()
    inside.picture("a floating address is chosen")
    dialog.get_by_role("button", name="OK").click()
    row_of(page, guest.name).get_by_text(address.floating_ip_address).wait_for()
    inside.picture("the instance has a floating address")
    assert tenant.connection.network.get_ip(address.id).port_id == guest.own_port.id


def test_volume_is_created_and_attached_through_the_dialogs(
    volumes: Volumes,
    disk_guest: Guest,
    window: Window,
    skyline_url: str,
    member_tenant: Tenant,
    module_owned: Owned,
) -> None:
    """Forms create and attach a volume, and its table row matches cinder and nova.

    The storage tab requires both corrections of the guide (errata E104, E105).
    """
    disk_guest.wait_status()
    cloud, server, name = member_tenant.connection, disk_guest.server, module_owned.name("dialog")
    page = Skyline(skyline_url).enter(window, member_tenant).page
    page.goto(f"{skyline_url}/storage/volume/create")
    row_of(page.locator("#form-item-col-volume_type"), default_type(cloud)["name"]).locator("input").check()
    # The form has it twice, with and without a quota.
    page.locator("#form-item-col-size input:visible").fill("1")
    page.locator("#form-item-col-name input").fill(name)
    window.picture("form of a new volume")
    page.get_by_role("button", name="Confirm", exact=True).click()
    page.wait_for_url(f"{skyline_url}/storage/volume")
    row = row_of(page, name)
    shows(row, "Available", ATTACHED_WITHIN)
    volume = module_owned.adopt(cloud, "volume", cloud.block_storage.find_volume(name, ignore_missing=False))
    assert volume.size == 1

    row.get_by_role("button", name="More").click()
    page.get_by_text("Instance Related").hover()
    page.get_by_text("Attach", exact=True).click()
    dialog = page.get_by_role("dialog")
    row_of(dialog, str(server.name)).locator("input").check()
    window.picture("the instance is chosen")
    dialog.get_by_role("button", name="OK").click()
    shows(row, "In-use", ATTACHED_WITHIN)
    window.picture("the volume is attached")
    assert str(server.name) in row.inner_text()
    assert [each.volume_id for each in cloud.compute.volume_attachments(server)] == [volume.id]
    volumes.detach(disk_guest, volume)


def test_load_balancer_panel(
    octavia: object, window: Window, skyline_url: str, tenant: Tenant, tenants: Tenants
) -> None:
    """The list of load balancers, read from Octavia: empty, with a button to create one."""
    with_role("load-balancer_member", tenant, tenants)
    page = Skyline(skyline_url).enter(window, tenant).page
    page.goto(f"{skyline_url}/network/load-balancers")
    page.get_by_role("button", name="Create Loadbalancer").wait_for()
    page.get_by_text("Total 0 items").wait_for()
    assert not page.get_by_text("Unable to get load balancers").is_visible()
    window.picture("load balancers")


PAGES = (
    ("image", "compute/image", "Compute/Images"),
    ("compute", "compute/keypair", "Compute/Key Pairs"),
    ("network", "network/router", "Network/Routers"),
    ("network", "network/topo", "Network/Topology"),
    ("volumev3", "storage/volume", "Storage/Volumes"),
    ("volumev3", "storage/snapshot", "Storage/Volume Snapshots"),
    ("volumev3", "storage/backup", "Storage/Volume Backups"),
    ("object-store", "storage/container", "Storage/Object Storage"),
    ("orchestration", "heat/stack", "Orchestration/Stacks"),
    ("container-infra", "container-infra/clusters", "Container/Clusters"),
)
"""Required service type of a page, its path, and its place in the menu."""
LOGS = ("skyline.log", "skyline-nginx-access.log", "skyline-nginx-error.log")
BAD = re.compile(r"\| (ERROR|CRITICAL) |Traceback|\[(error|crit|alert|emerg)\]|HTTP/[\d.]+\" 5\d\d ")


def test_pages_open_and_leave_no_error_in_the_log(
    inside: Window, skyline_url: str, tenant: Tenant, controller: Any
) -> None:
    """Each list page for users opens, gets its data from the service, and leaves no error in the logs."""
    before = {name: controller.file(f"/var/log/skyline/{name}").size for name in LOGS}
    page = inside.page
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(f"{answer.status} {answer.url}") if answer.status > 403 else None)
    services = service_types(tenant.connection)
    for service, path, place in PAGES:
        if service in services:
            page.goto(f"{skyline_url}/{path}")
            page.locator(".ant-breadcrumb", has_text=place).wait_for()
            page.wait_for_load_state("networkidle")
            assert not page.get_by_text("Unable to get").is_visible(), f"{path}: {page.inner_text('#app')}"
    inside.picture("the last of the pages")
    assert refused == []
    bad = []
    for name in LOGS:
        lines = lines_since(controller, f"/var/log/skyline/{name}", before[name])
        assert lines or name != LOGS[1], f"{name} does not grow: is it the dashboard's?"
        bad += [line for line in lines if BAD.search(line)]
    assert bad == []

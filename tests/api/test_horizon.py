"""Horizon without JavaScript: first page, static files, sessions, and foreign host names."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
import requests
from openstack.connection import Connection

from stackspec.cloud_inventory import inventory_of
from stackspec.fixtures.connections import Tenant, Tenants, access_of, http_session
from stackspec.pace import pace
from stackspec.site import Site

FORM = ("csrfmiddlewaretoken", "domain", "username", "password")
HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
KINDS = {".css": "text/css", ".js": "javascript", ".svg": "image/svg+xml", ".ico": "image/"}
"""Suffix of a static file -> part of its content type."""


@pytest.fixture(scope="module")
def tenant(tenants: Tenants) -> Tenant:
    """A project with a user of known password."""
    return tenants.get("horizon-api")


@pytest.fixture
def visitor(horizon_url: str, user_cloud: Connection) -> requests.Session:
    """An HTTP session, which keeps cookies like a browser."""
    return http_session(user_cloud)


def log_in(visitor: requests.Session, url: str, tenant: Tenant, password: str) -> requests.Response:
    """Submit the login form without following the redirect."""
    page = visitor.get(f"{url}/auth/login/", timeout=pace.seconds(60))
    access = access_of(tenant.connection)
    form = {
        **dict(HIDDEN.findall(page.text)),
        "domain": access.user_domain_name,
        "username": tenant.user_name,
        "password": password,
    }
    headers = {"Referer": f"{url}/auth/login/"}
    return visitor.post(
        f"{url}/auth/login/", data=form, headers=headers, timeout=pace.seconds(60), allow_redirects=False
    )


def test_login_page_answers(visitor: requests.Session, horizon_url: str) -> None:
    """The address leads to a form for name, password and domain."""
    answer = visitor.get(f"{horizon_url}/", timeout=pace.seconds(60))
    assert (answer.status_code, answer.url.split("?")[0]) == (200, f"{horizon_url}/auth/login/")
    for name in FORM:
        assert f'name="{name}"' in answer.text, f"the form has no field {name}"


def test_static_files_of_the_login_page(visitor: requests.Session, horizon_url: str) -> None:
    """Styles, scripts and pictures of the first page exist and have the right content type."""
    page = visitor.get(f"{horizon_url}/auth/login/", timeout=pace.seconds(60))
    names = set(re.findall(r"(?:href|src)=[\"']([^\"']*/static/[^\"']+)[\"']", page.text))
    ends = {re.sub(r"^.*(\.\w+)$", r"\1", name) for name in names}
    assert {".css", ".js"} <= ends, f"the page has no styles or no scripts: {sorted(names)}"
    for name in sorted(names):
        answer = visitor.get(urljoin(page.url, name), timeout=pace.seconds(60))
        kind = next((kind for end, kind in KINDS.items() if name.endswith(end)), "")
        assert (answer.status_code, bool(answer.content)) == (200, True), f"{name}: HTTP {answer.status_code}"
        assert kind in answer.headers["Content-Type"], f"{name} is {answer.headers['Content-Type']}"


def test_session_begins_with_the_login_and_ends_with_the_logout(
    visitor: requests.Session, horizon_url: str, tenant: Tenant
) -> None:
    """The session cookie is HttpOnly, and opens the project's pages until the logout."""
    answer = log_in(visitor, horizon_url, tenant, tenant.password)
    assert answer.status_code == 302, f"login: HTTP {answer.status_code}"
    cookie = next(line for line in answer.raw.headers.getlist("Set-Cookie") if line.startswith("sessionid="))
    assert "httponly" in cookie.lower(), "JavaScript can read the session cookie"
    inside = visitor.get(f"{horizon_url}/project/", timeout=pace.seconds(60), allow_redirects=False)
    assert (inside.status_code, tenant.user_name in inside.text) == (200, True)
    kept = {name: value or "" for name, value in visitor.cookies.items()}
    headers = {"Referer": f"{horizon_url}/project/"}
    visitor.get(f"{horizon_url}/auth/logout/", headers=headers, timeout=pace.seconds(60))
    thief = http_session(tenant.connection)
    again = thief.get(f"{horizon_url}/project/", cookies=kept, timeout=pace.seconds(60), allow_redirects=False)
    assert again.status_code == 302, "the session cookie still opens the project's pages after the logout"
    assert "/auth/login" in again.headers["Location"]


def test_wrong_password_gives_no_session(visitor: requests.Session, horizon_url: str, tenant: Tenant) -> None:
    """A failed login shows the form with the reason, and the project's pages stay inaccessible."""
    answer = log_in(visitor, horizon_url, tenant, "wrong")
    assert (answer.status_code, "Invalid credentials" in answer.text) == (200, True)
    inside = visitor.get(f"{horizon_url}/project/", timeout=pace.seconds(60), allow_redirects=False)
    assert inside.status_code == 302


def test_form_from_elsewhere_is_refused(visitor: requests.Session, horizon_url: str, tenant: Tenant) -> None:
    """A form without the dashboard's CSRF token is refused."""
    form = {"username": tenant.user_name, "password": tenant.password}
    answer = visitor.post(f"{horizon_url}/auth/login/", data=form, timeout=pace.seconds(60), allow_redirects=False)
    assert (answer.status_code, "csrf_failure" in answer.headers.get("Location", "")) == (302, True)


def test_every_name_of_the_site_leads_here(visitor: requests.Session, horizon_url: str, site: Site) -> None:
    """The dashboard responds to the controller's name and addresses, and to those of the inventory."""
    controller = site.controller
    for name in (
        controller.name,
        controller.address,
        str(controller.provider.address),
        *inventory_of(site).dashboard_names,
    ):
        answer = visitor.get(f"{horizon_url}/auth/login/", headers={"Host": name}, timeout=pace.seconds(60))
        assert answer.status_code == 200, f"{name}: HTTP {answer.status_code}"


def test_wrong_host_is_refused(visitor: requests.Session, horizon_url: str, site: Site) -> None:
    """A foreign Host header is refused, since it would appear in links (erratum E51)."""
    answer = visitor.get(f"{horizon_url}/auth/login/", headers={"Host": "attacker.example"}, timeout=pace.seconds(60))
    assert answer.status_code == 400
    assert "attacker.example" not in answer.text, "the page shows the foreign name and the settings (erratum E55)"

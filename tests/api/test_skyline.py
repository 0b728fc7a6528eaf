"""Skyline's API as used by its console: sessions, and the other APIs behind it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenant, Tenants, access_of, http_session
from stackspec.pace import pace
from stackspec.site import Site

API = "/api/openstack/skyline/api/v1"
COOKIE = "session"
PUBLISHED = ("000000", "aCtmgbcUqYUy_HNVg5BDXCaeJgJQzHJXwqbXr0Nmb2o")
"""Well-known keys: the guide's (erratum E98), and the software's default."""


class Visitor:
    """A client of the API with the cookies of one session.

    :param url: the dashboard's URL
    :param connection: a connection to the cloud, whose certificates are trusted
    """

    def __init__(self, url: str, connection: Connection) -> None:
        self.url = url
        self.http = http_session(connection)

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """Call the dashboard's own API."""
        return self.http.request(method, f"{self.url}{API}{path}", timeout=pace.seconds(60), **more)

    def login(self, tenant: Tenant, password: str | None = None) -> requests.Response:
        """Log in as the tenant's user."""
        access = access_of(tenant.connection)
        body = {
            "region": tenant.connection.config.get_region_name(),
            "domain": access.user_domain_name,
            "username": tenant.user_name,
            "password": tenant.password if password is None else password,
        }
        return self.call("POST", "/login", json=body)


@pytest.fixture(scope="module")
def tenant(tenants: Tenants) -> Tenant:
    """A project with a user of known password."""
    return tenants.get("skyline")


@pytest.fixture
def visitor(skyline_url: str, user_cloud: Connection) -> Iterator[Visitor]:
    """A client that is not logged in."""
    made = Visitor(skyline_url, user_cloud)
    yield made
    made.http.close()


@pytest.fixture
def profile(visitor: Visitor, tenant: Tenant) -> dict[str, Any]:
    """The response of a login; the visitor is logged in."""
    answer = visitor.login(tenant)
    assert answer.status_code == 200, f"login to Skyline: HTTP {answer.status_code} {answer.reason}\n{answer.text}"
    return dict(answer.json())


def test_console_is_served(visitor: Visitor) -> None:
    """The page and its scripts and styles are served, and the same page for every path of the console."""
    page = visitor.http.get(f"{visitor.url}/", timeout=pace.seconds(30))
    assert page.status_code == 200
    files = re.findall(r'(?:src|href)="?(/[^"\s>]+)', page.text)
    assert any(each.endswith(".js") for each in files), page.text
    for each in files:
        found = visitor.http.get(f"{visitor.url}{each}", timeout=pace.seconds(30))
        kind = found.headers["Content-Type"]
        assert (found.status_code, "text/html" in kind) == (200, False), f"{each}: HTTP {found.status_code}, {kind}"
    assert visitor.http.get(f"{visitor.url}/compute/instance", timeout=pace.seconds(30)).text == page.text


def test_login_shows_who_and_where(profile: dict[str, Any], visitor: Visitor, tenant: Tenant) -> None:
    """The profile has user, project, roles and services, each behind the dashboard's own address."""
    assert (profile["user"]["name"], profile["user"]["id"]) == (tenant.user_name, tenant.user_id)
    assert profile["project"]["id"] == tenant.project_id
    assert set(profile["projects"]) == {tenant.project_id}
    assert "member" in {each["name"] for each in profile["roles"]}
    assert {"nova", "neutron", "glance", "keystone"} <= set(profile["endpoints"])
    assert visitor.http.cookies.get(COOKIE)


def test_wrong_password_is_refused(visitor: Visitor, tenant: Tenant) -> None:
    """Refused without a session."""
    answer = visitor.login(tenant, "wrong")
    assert answer.status_code == 401, answer.text
    assert not visitor.http.cookies.get(COOKIE)
    assert visitor.call("GET", "/profile").status_code == 401


def test_profile_is_the_session_s(profile: dict[str, Any], visitor: Visitor, user_cloud: Connection) -> None:
    """The profile equals the login's response; without the cookie it is refused."""
    found = visitor.call("GET", "/profile")
    assert found.status_code == 200, found.text
    for key in ("user", "project", "region"):
        assert found.json()[key] == profile[key]
    assert Visitor(visitor.url, user_cloud).call("GET", "/profile").status_code == 401


def signed(key: str, payload: dict[str, Any]) -> str:
    """A JSON web token in the API server's format."""

    def packed(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = ".".join(packed(json.dumps(each).encode()) for each in ({"alg": "HS256", "typ": "JWT"}, payload))
    return f"{text}.{packed(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest())}"


def with_session(visitor: Visitor, tenant: Tenant, key: str) -> requests.Response:
    """The response to a cookie with the tenant's token, signed with `key`."""
    payload = {
        "keystone_token": tenant.connection.auth_token,
        "region": tenant.connection.config.get_region_name(),
        "exp": int(time.time()) + 600,
        "uuid": uuid.uuid4().hex,
    }
    visitor.http.cookies.set(COOKIE, signed(key, payload))
    return visitor.call("GET", "/profile")


@pytest.mark.parametrize("key", PUBLISHED, ids=["the guide's", "shipped"])
def test_session_cannot_be_forged(visitor: Visitor, tenant: Tenant, key: str) -> None:
    """A session signed with a well-known key is refused, although its token is valid."""
    answer = with_session(visitor, tenant, key)
    assert answer.status_code == 401, f"a session signed with a well-known key is accepted: {answer.text[:200]}"


def test_session_is_what_the_site_has_signed(site: Site, visitor: Visitor, tenant: Tenant) -> None:
    """A session signed with the site's own key is accepted, so the others are refused because of their key."""
    answer = with_session(visitor, tenant, site.secrets.key("skyline sessions"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["user"]["id"] == tenant.user_id


def test_session_ends_with_logout(profile: dict[str, Any], visitor: Visitor, user_cloud: Connection) -> None:
    """The cookie is useless after the logout."""
    kept = visitor.http.cookies.get(COOKIE)
    assert visitor.call("POST", "/logout").status_code == 200
    thief = Visitor(visitor.url, user_cloud)
    thief.http.cookies.set(COOKIE, kept)
    assert thief.call("GET", "/profile").status_code == 401


def test_other_apis_are_behind_it(
    nova_discover: object, profile: dict[str, Any], visitor: Visitor, tenant: Tenant
) -> None:
    """With the session's token nova and neutron return the project's objects; without it they refuse."""
    region = profile["region"].lower()
    token = {"X-Auth-Token": profile["keystone_token"]}
    for path, key in (("nova/v2.1/servers", "servers"), ("neutron/v2.0/networks", "networks")):
        url = f"{visitor.url}/api/openstack/{region}/{path}"
        assert visitor.http.get(url, timeout=pace.seconds(60)).status_code == 401
        found = visitor.http.get(url, headers=token, timeout=pace.seconds(60))
        assert found.status_code == 200, found.text
        foreign = [each for each in found.json()[key] if each.get("tenant_id", tenant.project_id) != tenant.project_id]
        assert all(each.get("router:external") or each.get("shared") for each in foreign)


def test_volumes_are_behind_it(cinder: object, profile: dict[str, Any], visitor: Visitor, tenant: Tenant) -> None:
    """The session includes block storage, and its token is valid there; otherwise the storage tab is empty (E100)."""
    assert "cinder" in profile["endpoints"], f"endpoints of the session: {sorted(profile['endpoints'])}"
    url = f"{visitor.url}/api/openstack/{profile['region'].lower()}/cinder/v3/{tenant.project_id}"
    assert visitor.http.get(f"{url}/volumes", timeout=pace.seconds(60)).status_code == 401
    token = {"X-Auth-Token": profile["keystone_token"]}
    for path, key in (("volumes", "volumes"), ("types", "volume_types")):
        found = visitor.http.get(f"{url}/{path}", headers=token, timeout=pace.seconds(60))
        assert (found.status_code, key in found.json()) == (200, True), found.text


def test_settings_are_an_administrator_s(profile: dict[str, Any], visitor: Visitor) -> None:
    """An ordinary user can read the dashboard's settings but not change them."""
    assert visitor.call("GET", "/setting/gpu_models").status_code == 200
    answer = visitor.call("PUT", "/setting", json={"key": "gpu_models", "value": ["forged"]})
    assert answer.status_code == 403, answer.text


def test_policies_tell_a_member_from_an_administrator(profile: dict[str, Any], visitor: Visitor) -> None:
    """The policies that control the console's menus: a member may create a server, but no host aggregate."""
    rules = ["nova:os_compute_api:servers:create", "nova:os_compute_api:os-aggregates:create"]
    answer = visitor.call("POST", "/policies/check", json={"rules": rules, "target": {}})
    assert answer.status_code == 200, answer.text
    allowed = {each["rule"]: each["allowed"] for each in answer.json()["policies"]}
    assert allowed == {rules[0]: True, rules[1]: False}

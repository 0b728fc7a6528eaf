"""Which cloud a run or a command uses: one answer, or one message."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1.exceptions import Unauthorized

from stackspec.errors import InputError
from stackspec.fixtures.connections import connect_as, http_session
from stackspec.openstack import cloud
from stackspec.openstack.catalog import Catalog
from stackspec.openstack.cloud import API_TIMEOUT, connect_named
from stackspec.secrets import MASK, redact
from stackspec.which_cloud import which_cloud

from .bare import lab_site
from .guide_plan import ROOT
from .plugin_runs import Runs

LAB = ROOT / "inventories/lab"


@pytest.fixture(autouse=True)
def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clouds.yaml with the lab's own entry and another cloud."""

    def entry(url: str, region: str = "RegionOne") -> dict[str, Any]:
        return {"auth": {"auth_url": url, "username": "u", "password": "p", "project_name": "p"}, "region_name": region}

    clouds = {
        "lab": entry("http://controller:5000/v3"),
        "prod": entry("https://prod.example.org:5000/v3"),
        "elsewhere": entry("http://controller:5000/v3", "RegionTwo"),
        "patient": {**entry("https://patient.example.org:5000/v3"), "api_timeout": 900},
    }
    file = tmp_path / "clouds.yaml"
    file.write_text(json.dumps({"clouds": clouds}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    for name in ("OS_CLOUD", "OS_AUTH_URL", "STACKSPEC_INVENTORY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["prod", "elsewhere", "nosuch"])
@pytest.mark.parametrize(
    ("inventory", "variable", "nodes"),
    [
        pytest.param(LAB, "", False, id="option"),
        pytest.param(None, str(LAB), False, id="environment"),
        pytest.param(None, "", True, id="deploy"),
    ],
)
def test_two_clouds_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, inventory: Path | None, variable: str, nodes: bool
) -> None:
    monkeypatch.setenv("OS_CLOUD", name)
    if variable:
        monkeypatch.setenv("STACKSPEC_INVENTORY", variable)
    with pytest.raises(InputError, match=f"OS_CLOUD={name} names another cloud than the inventory .*lab"):
        which_cloud(inventory, LAB, nodes=nodes)


def test_one_cloud_named_twice_is_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CLOUD", "lab")
    meant = which_cloud(LAB, None)
    assert (meant.site and meant.site.name, meant.name) == ("lab", "")


def test_cloud_alone_and_site_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    site = which_cloud(None, LAB).site
    assert site is not None
    assert site.name == "lab"
    with pytest.raises(InputError, match="no cloud selected"):
        which_cloud(None, None)
    monkeypatch.setenv("OS_CLOUD", "prod")
    assert which_cloud(None, LAB).name == "prod"


@pytest.fixture
def openrc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of an openrc file."""
    for name, value in {
        "OS_AUTH_URL": "https://lab.example.org:5000/v3",
        "OS_USERNAME": "u",
        "OS_PASSWORD": "known-to-its-user",
        "OS_PROJECT_NAME": "p",
        "OS_REGION_NAME": "RegionThree",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("openrc")
def test_openrc_selects_a_cloud() -> None:
    meant = which_cloud(None, LAB)
    assert meant.site is None
    connection = connect_named(meant.name)
    assert connection.config.auth["auth_url"] == "https://lab.example.org:5000/v3"
    assert connection.config.get_region_name() == "RegionThree"
    assert redact("known-to-its-user") == MASK


@pytest.mark.usefixtures("openrc")
def test_openrc_of_another_cloud_is_refused_for_a_site() -> None:
    """Somebody who sourced an openrc of production may have meant either."""
    with pytest.raises(
        InputError, match=r"OS_AUTH_URL=https://lab.example.org.* names another cloud .*unset OS_AUTH_URL"
    ):
        which_cloud(None, LAB, nodes=True)


@pytest.mark.usefixtures("openrc")
def test_openrc_of_the_site_is_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_AUTH_URL", "http://controller:5000/v3")
    monkeypatch.setenv("OS_REGION_NAME", "RegionOne")
    site = which_cloud(LAB, None).site
    assert site is not None
    assert site.name == "lab"


def test_option_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CLOUD", "elsewhere")
    assert which_cloud(None, LAB, cloud="prod").name == "prod"


def test_option_that_conflicts_is_named() -> None:
    with pytest.raises(
        InputError, match=r"^--os-cloud prod names another cloud .*; omit --os-cloud to work on the site"
    ):
        which_cloud(LAB, None, cloud="prod")


TLS = {
    "own authority": ({"cacert": "/etc/ca.pem"}, "/etc/ca.pem", None),
    "insecure": ({"insecure": True}, False, None),
    "not verified": ({"verify": False}, False, None),
    "client certificate": ({"cert": "/c.pem", "key": "/k.pem"}, True, ("/c.pem", "/k.pem")),
}


@pytest.mark.parametrize(("settings", "trusted", "certificate"), TLS.values(), ids=TLS)
def test_every_client_trusts_what_the_cloud_s_entry_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], trusted: Any, certificate: Any
) -> None:
    """Other users' connections, plain HTTP sessions, and both of python-swiftclient's interfaces."""
    auth = {"auth_url": "https://own.example.org:5000/v3", "username": "u", "password": "p", "project_name": "p"}
    overrides = {"object_store_endpoint_override": "https://own.example.org/store"}
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps({"clouds": {"own": {"auth": auth, **settings, **overrides}}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    connection = connect_named("own")
    theirs = connect_as(connection, "x", user_id="u", project_id="p")
    assert theirs.config.get_endpoint("object-store") == "https://own.example.org/store"
    for each in (connection.session, theirs.session, http_session(connection), http_session(theirs)):
        assert (each.verify, each.cert) == (trusted, certificate)


LOGINS: dict[str, dict[str, Any]] = {
    "application_credential": {
        "auth_type": "v3applicationcredential",
        "auth": {"application_credential_id": "i", "application_credential_secret": "very secret"},
    },
    "token": {"auth_type": "v3token", "auth": {"token": "very secret", "project_id": "p"}},
    "password": {
        "auth_type": "v3password",
        "auth": {"username": "u", "password": "very secret", "user_domain_name": "Default", "system_scope": "all"},
    },
}


@pytest.mark.parametrize(("kind", "login"), LOGINS.items())
def test_ways_to_log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, login: dict[str, Any]) -> None:
    """The request for a token has the configured credentials and scope; the secret is masked in reports."""
    url = "https://own.example.org:5000/v3"
    entry = {**login, "auth": {"auth_url": url, **login["auth"]}}
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps({"clouds": {"own": entry}}))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    plugin: Any = connect_named("own").session.auth
    (method,) = plugin.auth_methods
    name, data = method.get_auth_data(None, plugin, {}, {})[:2]
    assert (name, "very secret" in json.dumps(data)) == (kind, True)
    assert plugin.system_scope == login["auth"].get("system_scope")
    assert redact("very secret") == MASK


def test_run_of_a_site_never_uses_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it contains when a test requests its connection."""
    monkeypatch.setenv("OS_CLOUD", "prod")
    assert cloud.open_cloud(lab_site(), "").config.auth["auth_url"] == "http://controller:5000/v3"
    assert cloud.open_cloud(None, "elsewhere").config.get_region_name() == "RegionTwo"


@pytest.mark.parametrize(("name", "seconds"), [("prod", API_TIMEOUT), ("patient", 900)])
def test_every_connection_has_a_timeout(name: str, seconds: int) -> None:
    """The given user's, and those of users and projects created by tests."""
    connection = connect_named(name)
    theirs = connect_as(connection, "x", user_id="u", project_id="p")
    inside: Any = connection.connect_as(project_id="p")
    assert [each.session.timeout for each in (connection, theirs, inside)] == [seconds] * 3


def test_silent_cloud_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "API_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        auth = {"auth_url": f"http://127.0.0.1:{port}/v3", "username": "u", "password": "p", "project_name": "p"}
        (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"silent": {"auth": auth}}}))
        with pytest.raises(InputError, match=r"silent: .*timed out"):
            Catalog(None, "silent").check()


@pytest.mark.parametrize("mode", ["--deploy", "--plan", ""])
def test_run_ends_before_any_change(runs: Runs, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("OS_CLOUD", "prod")
    before = runs.files()
    result = runs.pytest(*[mode] if mode else [])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*OS_CLOUD=prod names another cloud than the inventory*"])
    assert runs.files() == before


LOGIN = """
    import pytest

    @pytest.fixture
    def user_cloud(identity): pass

    def test_first(user_cloud): pass
    def test_second(user_cloud): pass
    def test_without(): pass
"""


def test_refused_login_is_reported_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test that logs in would report the same; tests without the cloud still run."""

    def refuse(site: object) -> None:
        raise Unauthorized("wrong password")

    monkeypatch.setattr(cloud, "connect", refuse)
    runs.tests(LOGIN)
    result = runs.pytest()
    result.assert_outcomes(errors=1, skipped=1, passed=1)
    refused = "the administrator cannot log in at http://one:5000/v3: wrong password*"
    result.stdout.fnmatch_lines([refused, f"SKIPPED*blocked by keystone: {refused}"])

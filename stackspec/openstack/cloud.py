"""The cloud of a site, read as administrator: each list is cached until something changes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openstack
import tenacity
from keystoneauth1 import exceptions
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from openstack.connection import Connection

from ..errors import CannotTell
from ..secrets import redact
from ..site import Site

CONNECT_RETRIES = 5
"""API servers behind uWSGI may answer on a keep-alive connection and then reset it; the client retries."""
API_TIMEOUT = 180
"""Request timeout in seconds; services use 60 for requests between each other."""
_QUERIES: dict[str, dict[str, Any]] = {"compute.flavors": {"is_public": None}}
"""Non-default list arguments: include flavors that are not public."""
SECRETS = ("password", "application_credential_secret", "token", "passcode")
"""Credentials of a cloud that must not appear in reports."""
SHORTEST = 6
"""Minimum length of a secret to be masked: shorter ones occur in ordinary words."""
REACHED_FOR = 2.0
"""Seconds for which an unreachable service is remembered as unreachable."""
REACHED_WITHIN = 5.0
"""Timeout in seconds for connecting to a service."""


def auth_url(site: Site) -> str:
    """The identity endpoint of the guide."""
    return f"http://{site.controller.name}:5000/v3"


def connect(site: Site, *, user: str = "admin", project: str = "admin", password: str | None = None) -> Connection:
    """A connection to the site's cloud.

    :param user: user of the Default domain
    :param project: project of the Default domain
    :param password: the user's password; default: the site's secret of that name
    """
    return openstack.connect(
        auth_url=auth_url(site),
        username=user,
        password=site.password(user) if password is None else password,
        project_name=project,
        user_domain_name="Default",
        project_domain_name="Default",
        region_name=site.region,
        connect_retries=CONNECT_RETRIES,
        api_timeout=API_TIMEOUT,
        load_yaml_config=False,
        load_envvars=False,
    )


def connect_named(name: str) -> Connection:
    """A connection to a cloud of clouds.yaml.

    :param name: its entry there, whose `api_timeout` takes precedence
    :raises ConfigException: there is no such entry, or it is incomplete
    """
    region = openstack.config.get_cloud_region(cloud=name, connect_retries=CONNECT_RETRIES)
    region.config["api_timeout"] = region.config.get("api_timeout") or API_TIMEOUT
    for secret in SECRETS:
        value = str(region.config.get("auth", {}).get(secret) or "")
        if len(value) >= SHORTEST:
            redact.add(value)
    return Connection(config=region)


def open_cloud(site: Site | None, name: str) -> Connection:
    """Connect to a site's cloud as its administrator, or without a site to the named cloud of clouds.yaml."""
    return connect(site) if site is not None else connect_named(name)


class SharedCloud:
    """The resources' view of the cloud; shared by all steps of a run.

    `lock` is held while an object is created, so that two steps do not create the same one.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.lock = threading.RLock()
        self._connection: Connection | None = None
        self._lists: dict[str, list[Any]] = {}
        self._proved: set[tuple[str, str]] = set()
        self._asked = 0.0
        self._silent: dict[str, float] = {}
        self._reachable = False
        self._certain = False
        self._refusal = ""

    @property
    def connection(self) -> Any:
        """The administrator's connection; its proxies are unions over API versions, which mypy cannot distinguish."""
        with self.lock:
            if self._connection is None:
                self._connection = connect(self.site)
            return self._connection

    def as_service(self, user: str) -> Any:
        """A connection as the user of a service, in project service."""
        return connect(self.site, user=user, project="service")

    def reachable(self) -> bool:
        """Whether the administrator can log in. Not before the keystone step is done."""
        with self.lock:
            if self._reachable or time.monotonic() - self._asked < REACHED_FOR:
                return self._reachable
            try:
                self._reachable = self.admits("admin", self.site.password("admin"), "admin")
            except CannotTell as error:
                self._refusal = str(error)
            self._asked = time.monotonic()
            return self._reachable

    def admits(self, user: str, password: str, project: str = "", *, domain: str = "Default") -> bool:
        """Whether keystone issues `user` of `domain` a token for `project`, or for the domain itself if there is none.

        A keystone that has responded before is only busy if it now does not: retry, since a timeout is not a refusal.

        :raises CannotTell: keystone does not respond, or has an internal error
        """
        if (user, project or domain) in self._proved:
            return True
        scope: dict[str, Any] = (
            {"project_name": project, "project_domain_name": domain} if project else {"domain_name": domain}
        )
        auth = v3.Password(auth_url(self.site), username=user, password=password, user_domain_name=domain, **scope)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((exceptions.ConnectFailure, exceptions.HttpServerError)),
            stop=tenacity.stop_after_attempt(CONNECT_RETRIES if self._reachable else 1),
            wait=tenacity.wait_exponential(0.5),
            reraise=True,
        )
        try:
            attempts(auth.get_token, Session(auth=auth, timeout=30))
        except (exceptions.ConnectFailure, OSError):
            raise CannotTell(f"keystone at {auth_url(self.site)} does not respond") from None
        except exceptions.HttpServerError as error:
            raise CannotTell(f"keystone at {auth_url(self.site)} has an internal error: {error}") from None
        except exceptions.ClientException as error:
            self._refusal = f"keystone at {auth_url(self.site)} refuses {user}: {type(error).__name__}: {error}"
            return False
        self._proved.add((user, project or domain))
        return True

    def list(self, kind: str) -> list[Any]:
        """All objects of a kind, such as ``identity.users`` or ``network.networks``.

        Empty while their service is not in the catalog.

        :raises CannotTell: the list cannot be read; while `certain`, the client's exception
        """
        service, name = kind.split(".")
        with self.lock:
            if not self._certain and not self.reachable():
                raise CannotTell(self._refusal)
            if kind not in self._lists:
                try:
                    if not self._certain:
                        self._reach(service)
                    query = _QUERIES.get(kind, {})
                    self._lists[kind] = list(getattr(getattr(self.connection, service), name)(**query))
                except exceptions.EndpointNotFound:
                    if self._certain:
                        raise
                    return []
                except (exceptions.ClientException, openstack.exceptions.SDKException) as error:
                    if self._certain:
                        raise
                    raise CannotTell(f"{kind} cannot be listed: {type(error).__name__}: {error}") from None
            return self._lists[kind]

    def _reach(self, service: str) -> None:
        """Check that something listens at a service's address: otherwise the client retries for long with each list.

        :raises CannotTell: nothing listens
        """
        found = self.connection.session.get_endpoint(
            service_type=service.replace("_", "-"), region_name=self.site.region, skip_discovery=True
        )
        url = urlsplit(found or "")
        if url.hostname is None:
            return  # The service is not in the catalog, which the client reports.
        if time.monotonic() > self._silent.get(service, 0.0) + REACHED_FOR:
            try:
                port = url.port or (443 if url.scheme == "https" else 80)
                socket.create_connection((url.hostname, port), REACHED_WITHIN).close()
                return
            except OSError:
                self._silent[service] = time.monotonic()
        raise CannotTell(f"the {service.replace('_', ' ')} service at {url.netloc} does not respond")

    def find(self, kind: str, **wanted: Any) -> Any | None:
        """The object of `kind` with the `wanted` attributes."""
        for each in self.list(kind):
            if all(getattr(each, name) == value for name, value in wanted.items()):
                return each
        return None

    def owned(self, kind: str, name: str, project: str) -> Any | None:
        """The object of `kind` named `name` that belongs to `project` of the Default domain.

        Tenants may use any names: a name alone does not identify an object.
        """
        owner = self.find("identity.projects", name=project, domain_id="default")
        attribute = "owner_id" if kind == "image.images" else "project_id"
        return self.find(kind, name=name, **{attribute: owner.id}) if owner is not None else None

    @contextlib.contextmanager
    def certain(self) -> Iterator[None]:
        """Hold the lock and refresh, before something is created: a failing list is then an error, not an empty list.

        :raises SDKException: from the body, as is keystoneauth's ClientException
        """
        with self.lock:
            self.forget()
            self._certain = True
            try:
                yield
            finally:
                self._certain = False

    def renew(self) -> None:
        """Log in again next time: a token contains the catalog of the time it was issued."""
        with self.lock:
            self._connection = None

    def forget(self, kind: str = "") -> None:
        """Drop the cache of `kind` (or everything)."""
        with self.lock:
            if kind:
                self._lists.pop(kind, None)
            else:
                self._lists.clear()
                self._proved.clear()

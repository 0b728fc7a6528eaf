"""Users, projects, roles, domains and limits. Guide: keystone, and each service's chapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import CannotTell
from ..resources.actions import Execute
from ..resources.base import Change, Context, Difference, Resource
from .api_object import ApiObject, compare
from .cloud import SharedCloud, auth_url
from .endpoint import INTERFACES


@dataclass(frozen=True)
class Bootstrap(Resource):
    """The administrator, project admin, the roles and the identity endpoints (keystone-manage bootstrap).

    The password is passed in the environment, not on the command line (erratum E11).
    """

    @property
    def title(self) -> str:
        return "keystone-manage bootstrap"

    def changes(self, context: Context) -> list[Change]:
        cloud = context.shared.get(SharedCloud)
        url = auth_url(context.site) + "/"
        urls = {interface: context.site.public(url) if interface == "public" else url for interface in INTERFACES}
        now, found = "not yet", {}
        try:
            if service := cloud.find("identity.services", type="identity"):
                found = {e.interface: e.url for e in cloud.list("identity.endpoints") if e.service_id == service.id}
        except CannotTell as error:
            now = f"cannot tell: {error}"
        if all(found.get(interface) == url for interface, url in urls.items()):
            return []
        # The command runs on the node, and the next check must see its effect.
        cloud.forget("identity.endpoints")
        argv = ["keystone-manage", "bootstrap", "--bootstrap-region-id", context.site.region]
        for interface, url in urls.items():
            argv += [f"--bootstrap-{interface}-url", url]
        env = {"OS_BOOTSTRAP_PASSWORD": context.site.password("admin")}
        action = Execute(tuple(argv), env=env)
        difference = Difference("keystone", "admin can log in, endpoints exist", now)
        return [Change("run keystone-manage bootstrap", (difference,), "", (action,))]


@dataclass(frozen=True)
class Project(ApiObject):
    """A project of the default domain."""

    name: str
    description: str = ""

    @property
    def title(self) -> str:
        return f"project {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.find("identity.projects", name=self.name, domain_id="default")
        return compare(found, {"description": self.description, "is_enabled": True}, self.title)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        identity = cloud.connection.identity
        if found := cloud.find("identity.projects", name=self.name, domain_id="default"):
            identity.update_project(found, description=self.description, is_enabled=True)
        else:
            identity.create_project(name=self.name, domain_id="default", description=self.description)


@dataclass(frozen=True)
class Role(ApiObject):
    """A role."""

    name: str

    @property
    def title(self) -> str:
        return f"role {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        return compare(cloud.find("identity.roles", name=self.name), {}, self.title)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        cloud.connection.identity.create_role(name=self.name)


@dataclass(frozen=True)
class ServiceUser(ApiObject):
    """A service's user in project service.

    Besides the guide's role admin it has the role service, without which other services refuse its service
    tokens (erratum E14; detaching a volume fails with 409).

    :param name: the user; its password is the site's secret of that name
    :param system_roles: roles on the whole system
    """

    name: str
    roles: tuple[str, ...] = ("admin", "service")
    system_roles: tuple[str, ...] = ()
    project: str = "service"

    @property
    def title(self) -> str:
        return f"user {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        user = cloud.find("identity.users", name=self.name, domain_id="default")
        if user is None:
            return compare(None, {}, self.title)
        differences = compare(user, {"is_enabled": True}, self.title)
        differences += [
            Difference(f"role of {self.name} on {self._place(where)}", role, "not given")
            for role, where in self._missing(cloud, user)
        ]
        if not differences and not cloud.admits(self.name, context.site.password(self.name), self.project):
            differences.append(Difference(f"password of {self.name}", "the site's", "a different one"))
        return differences

    def _place(self, where: str) -> str:
        return f"project {self.project}" if where == "project" else "the whole system"

    def _missing(self, cloud: SharedCloud, user: Any) -> list[tuple[str, str]]:
        project = cloud.find("identity.projects", name=self.project, domain_id="default")
        given = set()
        for each in cloud.list("identity.role_assignments"):
            if each.user and each.user["id"] == user.id:
                on_project = project is not None and each.scope.get("project", {}).get("id") == project.id
                where = "project" if on_project else "system" if "system" in each.scope else ""
                given.add((each.role["id"], where))
        ids = {role.name: role.id for role in cloud.list("identity.roles")}
        wanted = [(role, "project") for role in self.roles] + [(role, "system") for role in self.system_roles]
        return [(role, where) for role, where in wanted if (ids.get(role), where) not in given]

    def make(self, cloud: SharedCloud, context: Context) -> None:
        identity = cloud.connection.identity
        password = context.site.password(self.name)
        user = cloud.find("identity.users", name=self.name, domain_id="default")
        if user is None:
            user = identity.create_user(name=self.name, domain_id="default", password=password)
        elif not user.is_enabled or not cloud.admits(self.name, password, self.project):
            identity.update_user(user, password=password, is_enabled=True)
        project = identity.find_project(self.project, ignore_missing=False, domain_id="default")
        for role, where in self._missing(cloud, user):
            found = cloud.find("identity.roles", name=role)
            if where == "project":
                identity.assign_project_role_to_user(project, user, found)
            else:
                identity.assign_system_role_to_user(user, found, "all")


@dataclass(frozen=True)
class MemberProject(ServiceUser):
    """A project with an ordinary user of the same name (role member), which the guide omits (erratum E24)."""

    roles: tuple[str, ...] = ("member",)

    @property
    def title(self) -> str:
        return f"project and user {self.name}"

    def make(self, cloud: SharedCloud, context: Context) -> None:
        if cloud.find("identity.projects", name=self.name, domain_id="default") is None:
            cloud.connection.identity.create_project(name=self.name, domain_id="default", description="Demo project")
            cloud.forget("identity.projects")
        super().make(cloud, context)


@dataclass(frozen=True)
class Domain(ApiObject):
    """A domain for the users that a service creates."""

    name: str
    description: str

    @property
    def title(self) -> str:
        return f"domain {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.find("identity.domains", name=self.name)
        return compare(found, {"description": self.description, "is_enabled": True}, self.title)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        identity = cloud.connection.identity
        if found := cloud.find("identity.domains", name=self.name):
            identity.update_domain(found, description=self.description, is_enabled=True)
        else:
            identity.create_domain(name=self.name, description=self.description)


@dataclass(frozen=True)
class DomainAdmin(ApiObject):
    """A user who administers its own domain.

    :param name: the user; its password is the site's secret of that name
    :param domain: the domain, which exists
    """

    name: str
    domain: str

    @property
    def title(self) -> str:
        return f"user {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        domain = cloud.find("identity.domains", name=self.domain)
        user = domain and cloud.find("identity.users", name=self.name, domain_id=domain.id)
        if not user:
            return compare(None, {}, self.title)
        differences = compare(user, {"is_enabled": True}, self.title)
        if not self._is_admin(cloud, domain, user):
            differences.append(Difference(f"role of {self.name} on domain {self.domain}", "admin", "not given"))
        elif not differences and not cloud.admits(self.name, context.site.password(self.name), domain=self.domain):
            differences.append(Difference(f"password of {self.name}", "the site's", "a different one"))
        return differences

    def _is_admin(self, cloud: SharedCloud, domain: Any, user: Any) -> bool:
        role = cloud.find("identity.roles", name="admin")
        return any(
            each.user
            and role
            and (each.user["id"], each.role["id"]) == (user.id, role.id)
            and each.scope.get("domain", {}).get("id") == domain.id
            for each in cloud.list("identity.role_assignments")
        )

    def make(self, cloud: SharedCloud, context: Context) -> None:
        identity = cloud.connection.identity
        password = context.site.password(self.name)
        domain = identity.find_domain(self.domain, ignore_missing=False)
        user = cloud.find("identity.users", name=self.name, domain_id=domain.id)
        if user is None:
            user = identity.create_user(name=self.name, domain_id=domain.id, password=password)
        elif not user.is_enabled or not cloud.admits(self.name, password, domain=self.domain):
            identity.update_user(user, password=password, is_enabled=True)
        role = identity.find_role("admin", ignore_missing=False)
        identity.assign_domain_role_to_user(domain, user, role)


@dataclass(frozen=True)
class RoleAssignment(ApiObject):
    """A role of a user on a project; user and project exist in the default domain."""

    role: str
    user: str
    project: str

    @property
    def title(self) -> str:
        return f"role {self.role} of {self.user} on project {self.project}"

    def _parts(self, cloud: SharedCloud) -> tuple[Any, Any, Any]:
        project = cloud.find("identity.projects", name=self.project, domain_id="default")
        user = cloud.find("identity.users", name=self.user, domain_id="default")
        return project, user, cloud.find("identity.roles", name=self.role)

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        project, user, role = self._parts(cloud)
        if project and user and role:
            wanted = (project.id, user.id, role.id)
            for each in cloud.list("identity.role_assignments"):
                on_project = each.scope.get("project", {}).get("id")
                if each.user and (on_project, each.user["id"], each.role["id"]) == wanted:
                    return []
        return [Difference(self.title, "given", "not given")]

    def make(self, cloud: SharedCloud, context: Context) -> None:
        identity = cloud.connection.identity
        project = identity.find_project(self.project, ignore_missing=False, domain_id="default")
        user = identity.find_user(self.user, ignore_missing=False, domain_id="default")
        role = identity.find_role(self.role, ignore_missing=False)
        identity.assign_project_role_to_user(project, user, role)


@dataclass(frozen=True)
class RegisteredLimit(ApiObject):
    """A default limit of a service with its quotas in keystone. Guide: glance, `registered limit create`."""

    service_type: str
    name: str
    default: int

    @property
    def title(self) -> str:
        return f"registered limit {self.name}"

    def _found(self, cloud: SharedCloud) -> tuple[Any, Any]:
        service = cloud.find("identity.services", type=self.service_type)
        limit = service and cloud.find(
            "identity.registered_limits", service_id=service.id, resource_name=self.name, region_id=cloud.site.region
        )
        return service, limit

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        return compare(self._found(cloud)[1] or None, {"default_limit": self.default}, self.title)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        service, limit = self._found(cloud)
        identity = cloud.connection.identity
        if limit:
            identity.update_registered_limit(limit, default_limit=self.default)
        else:
            identity.create_registered_limit(
                service_id=service.id,
                resource_name=self.name,
                default_limit=self.default,
                region_id=context.site.region,
            )

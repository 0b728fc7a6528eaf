"""The corner of stackspec that knows OpenStack: resources that several chapters of the guide share."""

from .compute import Flavor
from .database import Database, DbSync
from .identity import (
    Bootstrap,
    CloudsFile,
    Domain,
    DomainAdmin,
    Endpoint,
    MemberProject,
    Project,
    RegisteredLimit,
    Role,
    RoleAssignment,
    ServiceUser,
)
from .image import Image
from .network import Network, Subnet
from .oslo import OsloConfig, database_url, keystone_auth, keystone_authtoken, transport_url
from .ovs import OvsBridge, OvsSetting
from .references import Id

__all__ = [
    "Bootstrap",
    "CloudsFile",
    "Database",
    "DbSync",
    "Domain",
    "DomainAdmin",
    "Endpoint",
    "Flavor",
    "Id",
    "Image",
    "MemberProject",
    "Network",
    "OsloConfig",
    "OvsBridge",
    "OvsSetting",
    "Project",
    "RegisteredLimit",
    "Role",
    "RoleAssignment",
    "ServiceUser",
    "Subnet",
    "database_url",
    "keystone_auth",
    "keystone_authtoken",
    "transport_url",
]

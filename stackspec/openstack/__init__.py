"""The OpenStack-specific part of stackspec: resources shared by several chapters of the guide."""

from .clouds_file import CloudsFile
from .compute import AvailabilityZone, Flavor, Keypair, NoQuota
from .database import Database, DbSync
from .endpoint import Endpoint
from .identity import (
    Bootstrap,
    Domain,
    DomainAdmin,
    MemberProject,
    Project,
    RegisteredLimit,
    Role,
    RoleAssignment,
    ServiceUser,
)
from .image import Image
from .load_balancer import NoStuckLoadBalancer
from .network import Network, SecurityGroup, ServiceNetwork, ServicePort, Subnet
from .oslo import OsloConfig, database_url, keystone_auth, keystone_authtoken, transport_url
from .ovs import OvsBridge, OvsNeutronPort, OvsSetting
from .references import Id
from .ring import Ring, RingDevice
from .volume import VolumeService, VolumeType

__all__ = [
    "AvailabilityZone",
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
    "Keypair",
    "MemberProject",
    "Network",
    "NoQuota",
    "NoStuckLoadBalancer",
    "OsloConfig",
    "OvsBridge",
    "OvsNeutronPort",
    "OvsSetting",
    "Project",
    "RegisteredLimit",
    "Ring",
    "RingDevice",
    "Role",
    "RoleAssignment",
    "SecurityGroup",
    "ServiceNetwork",
    "ServicePort",
    "ServiceUser",
    "Subnet",
    "VolumeService",
    "VolumeType",
    "database_url",
    "keystone_auth",
    "keystone_authtoken",
    "transport_url",
]

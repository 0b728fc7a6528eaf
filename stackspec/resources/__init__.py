"""Generic resources for steps; those specific to OpenStack are in stackspec.openstack."""

from .base import Change, Context, Difference, Query, Reference, Resource, Shared
from .claim import Claim, SpareInterface
from .command import Answers, Await, Command
from .disks import Mounted, Xfs
from .files import Access, Directory, File, FileFrom, Lines
from .generated import Generated
from .ini import IniFile
from .iscsi import InitiatorName
from .kept import KeptOption
from .kernel import KernelModule
from .lvm import LvmFilter, VolumeGroup
from .packages import NothingHalfInstalled, Packages
from .python_settings import PythonSettings
from .service import Service
from .venv import Venv
from .yaml_file import YamlFile

__all__ = [
    "Access",
    "Answers",
    "Await",
    "Change",
    "Claim",
    "Command",
    "Context",
    "Difference",
    "Directory",
    "File",
    "FileFrom",
    "Generated",
    "IniFile",
    "InitiatorName",
    "KeptOption",
    "KernelModule",
    "Lines",
    "LvmFilter",
    "Mounted",
    "NothingHalfInstalled",
    "Packages",
    "PythonSettings",
    "Query",
    "Reference",
    "Resource",
    "Service",
    "Shared",
    "SpareInterface",
    "Venv",
    "VolumeGroup",
    "Xfs",
    "YamlFile",
]

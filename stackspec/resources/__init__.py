"""Resources that every step can yield; what only OpenStack has is in stackspec.openstack."""

from .base import Change, Context, Difference, Query, Reference, Resource, Shared
from .command import Answers, Await, Command
from .files import Directory, File, Lines
from .ini import IniFile
from .packages import Packages
from .python_settings import PythonSettings
from .service import Service

__all__ = [
    "Answers",
    "Await",
    "Change",
    "Command",
    "Context",
    "Difference",
    "Directory",
    "File",
    "IniFile",
    "Lines",
    "Packages",
    "PythonSettings",
    "Query",
    "Reference",
    "Resource",
    "Service",
    "Shared",
]

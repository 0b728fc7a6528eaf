"""The embedded lab: an OpenStack site's bare nodes, as systemd machines in namespaces of this one."""

from .error import LabError
from .node import NodeStatus
from .site import Lab
from .spec import LabSpec, load

__all__ = ["Lab", "LabError", "LabSpec", "NodeStatus", "load"]

"""The embedded lab: an OpenStack site's bare nodes, as systemd machines in namespaces of this one."""

from lab.error import LabError
from lab.node import NodeStatus
from lab.site import Lab
from lab.spec import LabSpec, load

__all__ = ["Lab", "LabError", "LabSpec", "NodeStatus", "load"]

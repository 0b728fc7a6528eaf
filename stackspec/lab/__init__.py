"""The embedded lab: bare nodes for an OpenStack site, as systemd machines in namespaces of this host."""

from .error import LabError
from .node import NodeStatus
from .site import Lab
from .spec import LabSpec, load

__all__ = ["Lab", "LabError", "LabSpec", "NodeStatus", "load"]

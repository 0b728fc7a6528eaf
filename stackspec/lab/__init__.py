"""The embedded lab: bare nodes for an OpenStack site, as systemd machines in namespaces of this host."""

from .error import LabError
from .lab import Lab
from .node import NodeStatus
from .spec import LabSpec, load

__all__ = ["Lab", "LabError", "LabSpec", "NodeStatus", "load"]

"""Stash keys shared by plugin, fixtures and hooks."""

from __future__ import annotations

from typing import Any

import pytest

CONNECTION: pytest.StashKey[Any] = pytest.StashKey()
"""The connection of the run, for the check at its end; absent if no test used a cloud."""

LEFT: pytest.StashKey[list[str]] = pytest.StashKey()
"""Leftovers found in projects that are already removed; absent if no fixture creates cloud objects."""

REQUEST: pytest.StashKey[str] = pytest.StashKey()
"""Of a test: the global request id of its requests, which all services log next to their own."""

"""Where the plugin leaves what fixtures and hooks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .engine import Engine
    from .site import Site

SITE: pytest.StashKey[Site | None] = pytest.StashKey()
"""The site of the run; None when only an existing cloud was named."""

CLOUD: pytest.StashKey[str] = pytest.StashKey()
"""The cloud of clouds.yaml that the run validates; empty for a site."""

RUN_ID: pytest.StashKey[str] = pytest.StashKey()
"""Name that every object made by this run carries."""

ENGINE: pytest.StashKey[Engine | None] = pytest.StashKey()
"""The engine; None when no test asks for a step."""

CONNECTION: pytest.StashKey[Any] = pytest.StashKey()
"""The connection of the run, for the check at its end; absent when no test asked for a cloud."""

LEFT: pytest.StashKey[list[str]] = pytest.StashKey()
"""What tests left in projects that are removed by now; absent when no fixture makes objects in a cloud."""

REQUEST: pytest.StashKey[str] = pytest.StashKey()
"""Of a test: the id that its requests carry through all services, which log it beside their own."""

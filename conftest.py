"""Tests of the suite itself run pytest inside pytest; what no run does unless it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent / "tests"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests that run only when the command line names them.

    The suite's own are no part of a deployment; an outage takes the whole site from whoever works with it.
    """
    if collection_path not in (TESTS / "unit", TESTS / "outage"):
        return None
    if collection_path == TESTS / "unit" and not config.option.deploy:
        return None
    named = [config.invocation_params.dir / argument.split("::")[0] for argument in config.args]
    return None if any(path.is_relative_to(collection_path) for path in named) else True

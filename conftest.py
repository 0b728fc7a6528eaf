"""Tests of the suite itself run pytest inside pytest, belong to no site, and are not part of a deployment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from stackspec.suite import named_paths

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent / "tests"


def _named(config: pytest.Config) -> list[Path]:
    return named_paths(config.args, config.invocation_params.dir)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A run of the suite's own tests belongs to no site: its record is kept next to pytest's cache."""
    if not hasattr(config, "workerinput") and all(path.is_relative_to(TESTS / "unit") for path in _named(config)):
        state = config.rootpath / ".pytest_cache" / "state"
        shutil.rmtree(state, ignore_errors=True)
        os.environ["STACKSPEC_STATE"] = str(state)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The suite's own tests are not part of a deployment, unless the command line names them."""
    if collection_path != TESTS / "unit" or not config.option.deploy:
        return None
    return None if any(path.is_relative_to(collection_path) for path in _named(config)) else True

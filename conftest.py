"""Tests of the suite itself run pytest inside pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

OWN_TESTS = Path(__file__).parent / "tests" / "unit"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The suite's own tests are no part of a deployment, unless the command line names them."""
    if collection_path != OWN_TESTS or not config.option.deploy:
        return None
    named = [config.invocation_params.dir / argument.split("::")[0] for argument in config.args]
    return None if any(path.is_relative_to(OWN_TESTS) for path in named) else True

"""Tests of the suite itself run pytest inside pytest."""

pytest_plugins = ["pytester"]

"""What a failed test is a failure of, and the command that runs it again."""

from __future__ import annotations

import shlex
from typing import Any

from . import suite
from .cloud_options import OPTIONS
from .errors import ActionError, NodeError
from .waiting import NotInTime
from .which_cloud import ENVIRONMENT

CLOUD, NODE, SUITE, TIME = "cloud", "node", "suite", "time"
CLIENTS = ("openstack", "keystoneauth1", "swiftclient", "requests", "urllib3")
"""Libraries whose exceptions are what an API answered, or that it did not."""
NOT_REFUSED = "DID NOT RAISE"
"""How pytest begins to say that nothing was raised where a test wanted it."""
STATEMENT = 200
"""Characters of a statement in a failure's first line."""


def kind_of(error: BaseException, nodeid: str) -> str:
    """Where to look first: the cloud, a node, the suite itself, or why something takes so long.

    :param error: what the test ended with
    :param nodeid: the test
    """
    if isinstance(error, NotInTime):
        return TIME
    if isinstance(error, ActionError | NodeError):
        return NODE
    if type(error).__module__.split(".")[0] in CLIENTS:
        return CLOUD
    if isinstance(error, AssertionError) or type(error).__name__ == "Failed":
        return NODE if "tests/infra/" in nodeid else CLOUD
    return SUITE


def sentence(message: str, expected: str, statement: str) -> str:
    """A failure's text whose first line tells a reader what was expected, where the test itself says no more than code.

    :param message: the exception's text
    :param expected: what the test proves: the first line of its docstring
    :param statement: the statement of the test that failed, as it is written
    """
    text = message.removeprefix("AssertionError: ").removeprefix("Failed: ")
    if text.startswith(NOT_REFUSED):
        body = " ".join(line.strip() for line in statement.splitlines()[1:]) or statement
        error = text.split()[-1].strip("<>'")
        return f"not refused: {body[:STATEMENT]} ({error} was expected); {expected}"
    if text.startswith("assert ") and expected:
        return f"expected: {expected.rstrip('.')}; found: {text}"
    return message


def command_for(nodeid: str, option: Any, cloud: str, deploying: bool) -> str:
    """The command that runs one test again.

    :param option: the options of this run
    :param cloud: the entry of clouds.yaml, when no site is tested
    :param deploying: whether this run installs what the test needs
    """
    # What an openrc file has set is set when the command is run again.
    words = [f"OS_CLOUD={shlex.quote(cloud)}"] if cloud not in ("", ENVIRONMENT) else []
    words += [suite.command(nodeid), shlex.quote(nodeid)]
    words += ["--deploy", "-n0"] if deploying else []
    for name, default in (("inventory", None), *((each.name, each.default) for each in OPTIONS)):
        value = getattr(option, name.replace("-", "_"), None)
        if value and value != default:
            words += [f"--{name}", shlex.quote(str(value))]
    return " ".join(words)

"""Classifies a failed test, and builds the command that runs it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from .. import suite
from ..cloud_options import OPTIONS
from ..errors import ActionError, NodeError
from ..waiting import NotInTime
from ..which_cloud import ENVIRONMENT

CLOUD, NODE, SUITE, TIME = "cloud", "node", "suite", "time"
CLIENTS = ("openstack", "keystoneauth1", "swiftclient", "requests", "urllib3")
"""Libraries whose exceptions mean an API's error response or a missing response."""
NOT_REFUSED = "DID NOT RAISE"
"""Start of pytest's message when an expected exception was not raised."""
STATEMENT = 200
"""Characters of a statement, or of a service's reasons, in a failure's first line."""


def kind_of(error: BaseException, nodeid: str) -> str:
    """Where to look first: the cloud, a node, the suite itself, or the cause of a timeout.

    :param error: the test's exception
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
    """A failure's text; if the message is only code, the first line is extended with what was expected.

    :param message: the exception's text
    :param expected: what the test proves: the first line of its docstring
    :param statement: the source of the failed statement
    """
    text = message.removeprefix("AssertionError: ").removeprefix("Failed: ")
    if text.startswith(NOT_REFUSED):
        body = " ".join(line.strip() for line in statement.splitlines()[1:]) or statement
        error = text.split()[-1].strip("<>'")
        return f"not refused: {body[:STATEMENT]} ({error} was expected); {expected}"
    if text.startswith("assert ") and expected:
        return f"expected: {expected.rstrip('.')}; found: {text}"
    return message


def unread_reasons(error: BaseException | None) -> str:
    """The reasons in a service's error response that the text of the client's exception lacks; empty if there are none.

    Magnum and placement send a list of errors, which openstacksdk does not read.

    :param error: the test's exception; of a chain, the first with a response counts
    """
    refused: Any = next((each for each in chain(error) if getattr(each, "response", None) is not None), None)
    if refused is None:
        return ""
    try:
        errors = refused.response.json()["errors"]
        details = [str(each.get("detail") or each["title"]) for each in errors]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    said = str(refused)
    return "; ".join(text for each in details if (text := " ".join(each.split())) not in said)[:STATEMENT]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what led to it, latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def command_for(nodeid: str, option: Any, cloud: str, deploying: bool) -> str:
    """The command that runs one test again.

    :param option: the options of this run
    :param cloud: the entry of clouds.yaml, if no site is tested
    :param deploying: whether this run installs what the test needs
    """
    # Variables of an openrc file are still set when the command is run again.
    words = [f"OS_CLOUD={shlex.quote(cloud)}"] if cloud not in ("", ENVIRONMENT) else []
    words += [suite.command(nodeid), shlex.quote(nodeid)]
    words += ["--deploy", "-n0"] if deploying else []
    for name, default in (("inventory", None), *((each.name, each.default) for each in OPTIONS)):
        value = getattr(option, name.replace("-", "_"), None)
        if value and value != default:
            words += [f"--{name}", shlex.quote(str(value))]
    return " ".join(words)

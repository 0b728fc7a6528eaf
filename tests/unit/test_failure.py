"""A failed test says where to look first, and how to run it again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from keystoneauth1.exceptions import ConnectFailure
from openstack.exceptions import HttpException, raise_from_response
from requests import Request, Response

from stackspec.cloud_options import OPTIONS, Option
from stackspec.errors import ActionError, NodeError
from stackspec.plugin.failure import command_for, kind_of, sentence, unread_reasons
from stackspec.report.events import EventLog
from stackspec.report.html import Page, causes
from stackspec.report.model import RunReport
from stackspec.waiting import NotInTime

from .plugin_runs import Runs


@pytest.mark.parametrize(
    ("error", "nodeid", "kind"),
    [
        (NotInTime("timed out"), "tests/e2e/test_server.py::test_a", "time"),
        (HttpException("502"), "tests/api/test_image.py::test_a", "cloud"),
        (ConnectFailure("no route"), "tests/api/test_image.py::test_a", "cloud"),
        (AssertionError("two are not three"), "tests/api/test_image.py::test_a", "cloud"),
        (AssertionError("controller: it is full"), "tests/infra/test_nodes.py::test_a", "node"),
        (NodeError("compute01 is gone"), "tests/e2e/test_server.py::test_a", "node"),
        (ActionError("restart nova-api"), "tests/e2e/test_server.py::test_a", "node"),
        (KeyError("id"), "tests/infra/test_nodes.py::test_a", "suite"),
    ],
)
def test_kind_of_failure_says_where_to_look(error: BaseException, nodeid: str, kind: str) -> None:
    assert kind_of(error, nodeid) == kind


def options(**given: str) -> SimpleNamespace:
    none = dict.fromkeys(("inventory", "guest_image", "external_network", "flavor"))
    return SimpleNamespace(**{**none, "guest_user": "cirros", **given})


def test_command_reruns_the_test_with_the_same_options() -> None:
    test = "tests/api/test_image.py::test_a[x y]"
    assert command_for(test, options(), "", False) == f"./run '{test}'"
    assert command_for(test, options(), "", True) == f"./run '{test}' --deploy -n0"
    assert command_for(test, options(inventory="my site"), "", False) == f"./run '{test}' --inventory 'my site'"
    given = options(flavor="m1", guest_user="debian")
    assert command_for(test, given, "prod", False) == f"OS_CLOUD=prod ./run '{test}' --guest-user debian --flavor m1"


@pytest.mark.parametrize("each", OPTIONS, ids=lambda each: each.name)
def test_command_repeats_the_cloud_options(each: Option, pytestconfig: pytest.Config) -> None:
    key = each.name.replace("-", "_")
    assert pytestconfig.getoption(key) == each.default, "an option of the command line"
    assert command_for("a.py::b", options(**{key: "x"}), "", False).endswith(f" a.py::b --{each.name} x")


SENTENCES = '''
import pytest

def test_equal():
    """Two keys have two names."""
    assert "a" == "b"

def test_refused():
    """A second key of one name is a conflict."""
    with pytest.raises(KeyError):
        dict(
            a=1,
        )

def test_own_words():
    """Something."""
    assert False, "controller: it is full"
'''


def test_first_line_is_a_sentence_even_without_a_message(runs: Runs) -> None:
    runs.tests(SENTENCES, "test_sentences.py")
    runs.pytest("test_sentences.py")
    (record,) = runs.path.rglob("events.jsonl")
    found = {each.nodeid.split("::")[1]: each.brief for each in RunReport.of(EventLog(record).read()).causes}
    assert found == {
        "test_equal": "expected: Two keys have two names; found: assert 'a' == 'b'",
        "test_refused": "not refused: dict( a=1, ) (KeyError was expected); A second key of one name is a conflict.",
        "test_own_words": "AssertionError: controller: it is full",
    }


def test_sentence_for_a_test_without_a_docstring() -> None:
    assert sentence("assert 1 == 2", "", "") == "assert 1 == 2"
    assert sentence("AssertionError: timed out", "Doc.", "") == "AssertionError: timed out"


def refused(body: str, kind: str = "application/json") -> HttpException:
    """The exception that openstacksdk makes of a 400 with this body."""
    response = Response()
    response.status_code, response.reason, response.url = 400, "Bad Request", "http://controller:9511/v1/clusters"
    response.headers["content-type"] = kind
    response.request = Request("POST", response.url).prepare()
    response._content = body.encode()
    with pytest.raises(HttpException) as caught:
        raise_from_response(response)
    return caught.value


LISTED = '{"errors": [{"status": 400, "title": "Not found", "detail": "Image 4711 could not be found."}]}'


def test_reasons_that_the_client_does_not_read_are_found() -> None:
    error = refused(LISTED)
    assert "4711" not in str(error)
    assert unread_reasons(error) == "Image 4711 could not be found."
    assert unread_reasons(refused('{"errors": [{"title": "Not allowed", "detail": ""}]}')) == "Not allowed"
    consequence = KeyError("image")
    consequence.__cause__ = error
    assert unread_reasons(consequence) == "Image 4711 could not be found."


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no JSON",
        "[]",
        "7",
        '{"errors": 7}',
        '{"errors": ["x"]}',
        '{"errors": [{}]}',
        '{"error": {"message": "no"}}',
    ],
)
def test_other_answers_have_no_unread_reasons(body: str) -> None:
    assert unread_reasons(refused(body)) == ""
    assert unread_reasons(KeyError("id")) == ""


def test_what_the_client_says_is_not_repeated() -> None:
    assert unread_reasons(refused('{"message": "no such flavor", "errors": [{"detail": "no such flavor"}]}')) == ""


REFUSED = """
from openstack.exceptions import raise_from_response
from requests import Request, Response

def test_refused():
    response = Response()
    response.status_code, response.reason, response.url = 400, "Bad Request", "http://controller:9511/v1/clusters"
    response.headers["content-type"] = "application/json"
    response.request = Request("POST", response.url).prepare()
    response._content = b'{"errors": [{"detail": "Image 4711 could not be found."}]}'
    raise_from_response(response)
"""


def test_reason_of_a_refusal_is_in_the_first_line(runs: Runs) -> None:
    runs.tests(REFUSED, "test_refusals.py")
    runs.pytest("test_refusals.py")
    (record,) = runs.path.rglob("events.jsonl")
    (cause,) = RunReport.of(EventLog(record).read()).causes
    assert cause.brief.endswith("clusters, Bad Request; Image 4711 could not be found.")


TESTS = """
def test_good(): pass
def test_bad(): raise KeyError("id")
"""


def test_kind_and_command_are_in_every_report(runs: Runs) -> None:
    runs.tests(TESTS, "test_kinds.py")
    result = runs.pytest("--junitxml=junit.xml", "test_kinds.py")
    result.stdout.fnmatch_lines(["*to run it again*", "./run test_kinds.py::test_bad"])
    junit = (runs.path / "junit.xml").read_text()
    assert '<property name="stackspec.kind" value="suite"' in junit
    assert junit.count("stackspec.again") == 1
    (record,) = runs.path.rglob("events.jsonl")
    run = RunReport.of(EventLog(record).read())
    assert [(each.kind, each.again) for each in run.causes] == [("suite", "./run test_kinds.py::test_bad")]
    page = causes(run, Page(), True)
    assert page.index("KeyError") < page.index("Look first at: the suite itself") < page.index("traceback")
    assert run.tests["test_kinds.py::test_bad"]["notes"] == []

"""Runs with the report's hooks: the record, the pytest-html and JUnit files, and no secret in any of them."""

from __future__ import annotations

import html
import json
import re
import stat
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from stackspec.report.events import read

PLAIN = "9d8c7b6a5f4e3d2c1b0a9f8e"
NASTY = "t0p'<s>\"&\\%{x}-end"

CONFTEST = """
import pathlib
import pytest
from stackspec.report.events import EventLog
from stackspec.plugin.progress import Progress
from stackspec.plugin.report import ReportPlugin
from stackspec.secrets import redact

for secret in {secrets!r}:
    redact.add(secret)

def gather(report):
    return [{{"title": "nova.log", "node": "compute01", "text": "tail of " + {secrets!r}[0]}}]

@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    log = EventLog(pathlib.Path({folder!r}) / "events.jsonl")
    about = {{"run": "r1", "site": "lab", "mode": "deploy", "nodes": ["controller"]}}
    config.plugin = ReportPlugin(config, log, about, gather)
    config.pluginmanager.register(config.plugin)

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        return
    event = {{"event": "step", "step": "nova", "node": "controller", "state": "done", "time": 1.0, "seconds": 2.0}}
    session.config.plugin.log.write({{**event, "changes": [{{"title": "a", "diff": "+b"}}]}})
"""

LEAKS = """
import logging, sys, warnings
import pytest

SECRET = {secret!r}

class Odd(Exception):
    def __str__(self):
        return "odd " + SECRET

def test_message():
    raise RuntimeError("url mysql://u:" + SECRET + "@db")

def test_assertion():
    config = "user = nova, password = " + SECRET
    assert config == "user = nova, password = other"

def test_assertion_of_containers():
    assert {{"password": SECRET, "x": 1}} == {{"password": "", "x": 1}}

def test_long_text():
    assert "missing" in "a" * 95 + SECRET + "b" * 400 + SECRET + "c" * 100

def test_chain():
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        raise Odd() from error

def test_group():
    raise ExceptionGroup("many " + SECRET, [ValueError(SECRET), Odd()])

def test_output():
    print("out", SECRET)
    print("err", SECRET, file=sys.stderr)
    logging.getLogger().warning("log %s", SECRET)
    warnings.warn("warning " + SECRET)
    pytest.fail("plain " + SECRET, pytrace=False)

def test_skip():
    pytest.skip("skip " + SECRET)

@pytest.mark.xfail(reason="expected " + SECRET)
def test_xfail():
    raise Odd()

@pytest.fixture
def broken():
    print("in setup", SECRET)
    yield
    raise Odd()

@pytest.fixture
def broken_early(password=SECRET):
    raise Odd()

def test_teardown(broken, record_property):
    record_property("password", SECRET)

def test_setup(broken_early):
    pass

@pytest.mark.parametrize("password", [SECRET, "b"])
def test_parameter(password):
    print(SECRET)

def test_extras(extras, record_testsuite_property):
    import pytest_html
    extras.append(pytest_html.extras.text(SECRET, name="n " + SECRET))
    extras.append(pytest_html.extras.html("<b>" + SECRET + "</b>"))
    extras.append(pytest_html.extras.json({{"password": SECRET}}))
    record_testsuite_property("password", SECRET)

def test_attached(request):
    request.config.plugin.attach("of " + SECRET, "attached " + SECRET)
"""


@pytest.fixture
def make(pytester: pytest.Pytester) -> Callable[..., Path]:
    def make(tests: str, *secrets: str) -> Path:
        folder = pytester.path / "run"
        pytester.makeconftest(CONFTEST.format(secrets=secrets or ("none-of-these",), folder=str(folder)))
        pytester.makepyfile(tests)
        return folder

    return make


def run(pytester: pytest.Pytester, *words: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:stackspec", "--html=out.html", "--junitxml=out.xml", *words)


@pytest.mark.parametrize("secret", [PLAIN, NASTY])
@pytest.mark.parametrize(
    "words",
    [
        ("-vv", "--color=yes", "-rA", "--showlocals"),
        (
            "--tb=short",
            "-o",
            "junit_logging=all",
            "-o",
            "log_cli=true",
            "--log-file=out.log",
            "--metadata",
            "token",
            PLAIN,
        ),
        ("--tb=native", "-n1", "-o", "junit_logging=all"),
    ],
    ids=["colours", "logs", "worker"],
)
def test_no_secret_in_any_file_or_on_the_terminal(
    pytester: pytest.Pytester, make: Callable[..., Path], secret: str, words: tuple[str, ...]
) -> None:
    folder = make(LEAKS.format(secret=secret), secret, PLAIN)
    result = run(pytester, *words)
    result.assert_outcomes(failed=7, errors=2, skipped=1, xfailed=1, passed=5)
    files = [Path("out.html"), Path("out.xml"), *folder.iterdir(), *Path().glob("out.log")]
    texts = {str(path): path.read_text() for path in files} | {"terminal": result.stdout.str() + result.stderr.str()}
    assert {path.name for path in files} >= {"out.html", "out.xml", "events.jsonl", "report.html"}
    assert {str(path): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in files} == dict.fromkeys(
        map(str, files), "600"
    ), "others can read what a run wrote"
    source = re.escape(repr(secret))
    for name, text in texts.items():
        bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
        bare = re.sub(source, "", bare)
        for form in (
            secret,
            secret[:-3],
            secret[3:],
            repr(secret)[1:-1],
            html.escape(secret),
            json.dumps(secret)[1:-1],
        ):
            assert form not in bare, f"{form} in {name}"
        assert "******" in text, name
    suite = ElementTree.parse("out.xml").getroot()[0]
    for element in suite.iter():
        assert secret not in "".join([element.text or "", *element.attrib.values()])


def test_outcomes_times_and_reasons_are_recorded(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    folder = make(LEAKS.format(secret=PLAIN), PLAIN)
    run(pytester)
    events = read(folder / "events.jsonl")
    first, last = events[0], events[-1]
    assert (first["event"], first["run"], first["mode"], first["site"]) == ("run", "r1", "deploy", "lab")
    assert first["versions"]["pytest"] == pytest.__version__
    assert (last["event"], last["exit_status"]) == ("end", 1)
    tests = {event["nodeid"].split("::")[1]: event for event in events if event["event"] == "test"}
    assert {name: test["outcome"] for name, test in tests.items()} == {
        **dict.fromkeys(["test_message", "test_assertion", "test_assertion_of_containers", "test_long_text"], "failed"),
        **dict.fromkeys(["test_chain", "test_group", "test_output"], "failed"),
        **dict.fromkeys(["test_skip", "test_xfail"], "skipped"),
        **dict.fromkeys(["test_teardown", "test_setup"], "error"),
        **dict.fromkeys(["test_parameter[******]", "test_parameter[b]", "test_extras", "test_attached"], "passed"),
    }
    assert tests["test_message"]["reason"] == "RuntimeError: url mysql://u:******@db"
    assert tests["test_skip"]["reason"] == "skip ******"
    assert tests["test_xfail"]["reason"] == "expected failure: expected ******"
    assert tests["test_message"]["start"] > 1e9
    assert "raise RuntimeError" in tests["test_message"]["longrepr"]
    logs = {event["nodeid"].split("::")[1] for event in events if event.get("title") == "nova.log"}
    assert logs == {name for name, test in tests.items() if test["outcome"] in ("failed", "error")}
    found = [(event["title"], event["text"]) for event in events if event["event"] == "evidence"]
    assert set(found) == {("nova.log", "tail of ******"), ("of ******", "attached ******")}


def test_junit_contains_the_steps(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    make("def test_a(): pass")
    run(pytester).assert_outcomes(passed=1)
    suite = ElementTree.parse("out.xml").getroot()[0]
    found = {each.get("name"): each.get("value") for each in suite.iterfind("properties/property")}
    wanted = {"run": "r1", "site": "lab", "mode": "deploy", "changes": "1"}
    wanted |= {"steps.done": "1", "steps.failed": "0", "steps.blocked": "0"}
    assert found == {f"stackspec.{name}": value for name, value in wanted.items()}


def test_html_is_one_file_with_our_sections_and_attachments(
    pytester: pytest.Pytester, make: Callable[..., Path]
) -> None:
    make(
        """
        def test_page(request):
            print("x" * 1000)
            request.config.plugin.attach("login page", b"picture")
            assert 0
        def test_good(request):
            print("y" * 100_000)
        """
    )
    run(pytester).assert_outcomes(failed=1, passed=1)
    page = Path("out.html").read_text()
    assert not Path("assets").exists()
    assert '<title id="head-title">stackspec deploy lab r1</title>' in page
    assert page.index("<b>FAILED:</b>") < page.index("<h2>Steps") < page.index("2 tests took")
    (data,) = re.findall('data-jsonblob="([^"]*)"', page)
    blob = json.loads(html.unescape(data))
    bad, good = (
        blob["tests"][f"test_html_is_one_file_with_our_sections_and_attachments.py::{name}"]
        for name in ("test_page", "test_good")
    )
    (extra,) = bad[0]["extras"]
    assert "nova.log on compute01" in extra["content"]
    assert "data:image/png;base64,cGljdHVyZQ==" in extra["content"]
    assert good[0]["extras"] == []
    assert "characters cut" in good[0]["log"]
    assert len(page) < 400_000


def test_record_is_kept_without_html_and_junit(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    folder = make("def test_a(): assert 0")
    result = pytester.runpytest_subprocess("-p", "no:stackspec", "-p", "no:html", "-p", "no:metadata")
    result.assert_outcomes(failed=1)
    assert (folder / "report.html").exists()
    result.stdout.fnmatch_lines(["report: */run/report.html"])


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan"])
def test_collection_leaves_no_files(pytester: pytest.Pytester, make: Callable[..., Path], option: str) -> None:
    folder = make("def test_a(): pass")
    pytester.runpytest_subprocess("-p", "no:stackspec", option)
    assert not (folder / "report.html").exists()
    events = read(folder / "events.jsonl")  # the step that the conftest writes
    assert [event["event"] for event in events] == ["step"]


def test_collection_error_contains_no_secrets(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    folder = make(f"raise RuntimeError('it is {PLAIN}')", PLAIN)
    result = run(pytester)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    (test,) = (event for event in read(folder / "events.jsonl") if event["event"] == "test")
    assert (test["outcome"], test["reason"]) == ("error", "cannot be collected")
    for text in (Path("out.html").read_text(), Path("out.xml").read_text(), result.stdout.str()):
        assert "it is ******" in text
        assert PLAIN not in text


@pytest.mark.parametrize("words", [(), ("-n2",)], ids=["alone", "workers"])
def test_attachments_are_in_the_record_and_on_both_pages(
    pytester: pytest.Pytester, make: Callable[..., Path], words: tuple[str, ...]
) -> None:
    """Attached by a test or a fixture, before, during and after the test, whether it fails or not."""
    folder = make(
        """
        import pytest
        @pytest.fixture
        def used(request):
            attach = request.config.plugin.attach
            attach("before", "made")
            yield attach
            attach("after", "gone", "compute01")
        def test_good(used):
            used("within", "x" * 100_000 + "end")
        def test_bad(used):
            used("picture", b"picture")
            assert 0
        def test_other():
            pass
        """
    )
    run(pytester, *words).assert_outcomes(passed=2, failed=1)
    found: dict[str, list[tuple[str, str, str]]] = {}
    for each in read(folder / "events.jsonl"):
        if each["event"] == "evidence":
            test = found.setdefault(each["nodeid"].split("::")[1], [])
            test.append((each["title"], each["node"], each.get("text") or each["base64"]))
    before, after = ("before", "", "made"), ("after", "compute01", "gone")
    assert found == {
        "test_good": [before, ("within", "", "x" * 99_997 + "end"), after],
        "test_bad": [before, ("picture", "", "cGljdHVyZQ=="), ("nova.log", "compute01", "tail of ******"), after],
    }
    for page in (Path("out.html").read_text(), (folder / "report.html").read_text()):
        assert html.unescape(page).count("after on compute01</summary>") == 2


@pytest.mark.parametrize("words", [(), ("-n2",)], ids=["alone", "workers"])
def test_measurements_are_in_the_record_and_on_the_page(
    pytester: pytest.Pytester, make: Callable[..., Path], words: tuple[str, ...]
) -> None:
    """A sample is written when it is taken, also by a worker; a failed sampler adds none."""
    folder = make(
        """
        import pytest
        from stackspec.fixtures.numbers import Measured
        @pytest.mark.parametrize("seconds", [1.0, 2.0, 9.25])
        def test_a(request, seconds):
            Measured(request.config.plugin).add("volume attach", seconds)
        def test_b(request):
            with Measured(request.config.plugin)("volume create"):
                pass
        def test_c(request):
            with Measured(request.config.plugin)("volume detach"):
                assert 0
        """
    )
    run(pytester, *words).assert_outcomes(passed=4, failed=1)
    events = [event for event in read(folder / "events.jsonl") if event["event"] == "measured"]
    assert sorted(event["seconds"] for event in events if event["what"] == "volume attach") == [1.0, 2.0, 9.25]
    assert [event["what"] for event in events if event["seconds"] < 1] == ["volume create"]
    # Samples are written when they end, so they do not make the run longer.
    assert all(event["start"] + event["seconds"] <= event["time"] + 0.01 for event in events)
    row = '<td>volume attach</td><td class="n">3</td><td class="n">2.0</td><td class="n">9.2</td>'
    for page in ((folder / "report.html").read_text(), Path("out.html").read_text()):
        assert row in page
        assert page.index("<h2>Numbers") < page.index("<h2>Steps")


def test_killed_run_leaves_its_record(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    folder = make("import os\ndef test_a(): pass\ndef test_b(): os.kill(os.getpid(), 9)")
    run(pytester)
    events = read(folder / "events.jsonl")
    assert [event.get("outcome") for event in events if event["event"] == "test"] == ["running", "passed", "running"]
    assert events[-1]["nodeid"].endswith("::test_b")


def test_failed_evidence_does_not_hide_the_failure(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    folder = make("def test_a(): assert 0")
    conftest = Path("conftest.py")
    conftest.write_text(
        conftest.read_text().replace("    return [{", "    raise OSError('node is gone')\n    return [{")
    )
    run(pytester).assert_outcomes(failed=1)
    (found,) = (event for event in read(folder / "events.jsonl") if event["event"] == "evidence")
    assert found["text"] == "cannot be read: OSError: node is gone"


def test_service_log_is_in_the_first_line(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    folder = make("def test_a(): assert 0, 'the API answers 500'")
    logged = "2026-01-01 1 ERROR heat [req-0a1b2c3d-1111-2222-3333-444455556666] no table heat.event"
    tail = {"title": "log", "node": "one", "text": logged}
    conftest = Path("conftest.py")
    conftest.write_text(conftest.read_text().replace("    return [{", f"    return [{tail}]\n    return [{{"))
    run(pytester, "--junitxml=junit.xml").assert_outcomes(failed=1)
    (event,) = (each for each in read(folder / "events.jsonl") if each.get("outcome") == "failed")
    assert event["reason"] == "AssertionError: the API answers 500; one logs: no table heat.event"
    assert "one logs: no table heat.event" in Path("junit.xml").read_text()


def test_last_attempt_of_a_rerun_test_counts(pytester: pytest.Pytester, make: Callable[..., Path]) -> None:
    pytest.importorskip("pytest_rerunfailures")
    folder = make("tries = []\ndef test_a():\n    tries.append(1)\n    assert len(tries) > 1")
    run(pytester, "--reruns=1").assert_outcomes(passed=1)
    outcomes = [event["outcome"] for event in read(folder / "events.jsonl") if event["event"] == "test"]
    assert outcomes == ["running", "running", "passed"]

"""Lanes: workers test while one process deploys, and take turns when a file disturbs steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackspec.plugin.lanes import Claims, Needs, Turns, next_lane

from .plugin_runs import BROKEN, Runs


def test_one_process_deploys_and_workers_test(runs: Runs) -> None:
    """A second run, with the lanes of the ini file, has nothing to do."""
    runs.tests("def test_more(image): pass\n", "test_more.py")
    result = runs.pytest("--deploy", "-n2", spawn=True)
    result.assert_outcomes(passed=7)
    log = runs.log()
    assert len(log) == len(set(log)), "a step was applied twice"
    assert runs.node("two")["units"]["agent"]["active"] == "active"
    (runs.path / "pytest.ini").write_text("[pytest]\nlanes = 2\n")
    again = runs.pytest("--deploy", spawn=True)
    again.assert_outcomes(passed=7)
    assert runs.log() == []
    again.stdout.fnmatch_lines(["2 workers*", "*0 changes*"])


@pytest.mark.parametrize("arguments", [["--deploy", "-n0"], ["--deploy", "-s"], []])
def test_lanes_of_the_ini_file_apply_to_deployments(runs: Runs, arguments: list[str]) -> None:
    """Deployments run many tests at once, which nobody watches one by one."""
    (runs.path / "pytest.ini").write_text("[pytest]\nlanes = 2\n")
    runs.pytest(*arguments).stdout.no_fnmatch_line("*workers*")


def test_failed_step_is_one_failure_for_all_workers(runs: Runs) -> None:
    runs.prepare("one", broken=BROKEN)
    runs.tests("def test_more(identity): pass\ndef test_most(image): pass\n", "test_more.py")
    result = runs.pytest("--deploy", "-n2", spawn=True)
    result.assert_outcomes(passed=1, errors=1, skipped=6)
    text = result.stdout.str()
    assert text.count("step identity on one failed at service identity") == 1
    assert "blocked by identity on one: restart identity" in text
    runs.prepare("one", broken={})
    runs.pytest("--deploy", "--lf", "-n2", spawn=True).assert_outcomes(passed=7)


def test_worker_checks_drift_after_the_last_step(runs: Runs) -> None:
    """Injected faults are repaired by then; content that a later step overwrites was correct after its own step."""
    runs.add_drift_test()
    runs.pytest("--deploy", "test_cloud.py")
    runs.drift("one", "/etc/database.conf", "4096", "151")
    runs.pytest("--deploy", "-n2", spawn=True).assert_outcomes(passed=24)
    assert "4096" in runs.node("one")["files"]["/etc/database.conf"]["content"]
    runs.steps(
        """
        @step(role="all")
        def late(site, node, agent):
            yield File("/etc/name", "another")
        """
    )
    runs.tests("def test_late(late): pass\n", "test_late.py")
    result = runs.pytest("--deploy", "-n2", "test_late.py", "test_drift.py", spawn=True)
    assert result.parseoutcomes()["failed"] == 3
    result.stdout.fnmatch_lines(["*test_as_declared*base*"])


def test_workers_use_the_secrets_of_a_first_deployment(runs: Runs) -> None:
    """Both secrets that steps declare, not stored yet when a worker declares them, and later ones."""
    runs.add_drift_test()
    runs.steps(
        """
        from stackspec.waiting import wait_for

        class Late(File):
            def changes(self, context):
                return File(self.path, context.site.password("late")).changes(context)

        @step(role="all")
        def late(site, node, agent):
            yield Late("/etc/late", "")

        def pytest_collection_finish(session):
            if hasattr(session.config, "workerinput"):
                Path(session.config.workerinput["workerid"]).touch()
            else:
                wait_for("workers have collected", lambda: Path("gw0").exists() and Path("gw1").exists(), 240)
        """
    )
    runs.pytest("--deploy", "-n2", "test_drift.py", spawn=True).assert_outcomes(passed=21)
    passwords = {runs.node(name)["files"]["/etc/late"]["content"] for name in ("one", "two", "three")}
    assert len(passwords) == 1


def test_unreachable_node_ends_the_run_before_any_change(runs: Runs) -> None:
    runs.prepare("two", unreachable="not reachable by ssh")
    result = runs.pytest("--deploy", "-n2", spawn=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "node two: not reachable by ssh" in result.stderr.str()
    assert runs.log() == []


def test_file_that_cannot_be_imported_ends_the_run_before_any_change(runs: Runs) -> None:
    runs.tests("import nosuch\n", "test_broken.py")
    result = runs.pytest("--deploy", "-n2", spawn=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*No module named 'nosuch'", "*1 error*"])
    assert result.parseoutcomes() == {"errors": 1}
    assert runs.log() == []


def test_maxfail_ends_the_run(runs: Runs) -> None:
    runs.tests("def test_early(base): assert 0\n", "test_a.py")
    result = runs.pytest("--deploy", "-n2", "-x", spawn=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert result.parseoutcomes()["failed"] == 1


@pytest.mark.parametrize("looks", ["image", "deployed, base"], ids=["at the step", "at all that is deployed"])
def test_file_that_disturbs_a_step_has_it_exclusively(runs: Runs, looks: str) -> None:
    runs.tests(
        """
        import pytest, time

        pytestmark = pytest.mark.disturbs("image")

        def test_break(image):
            open("log", "a").write("broken\\n")
            time.sleep(1)

        def test_mend(image):
            open("log", "a").write("repaired\\n")
        """,
        "test_fault.py",
    )
    for name in ("a", "b"):
        runs.tests(
            f"""
            import time
            from stackspec.fixtures.nodes import deployed

            def test_first({looks}):
                open("log", "a").write("{name} begins\\n")
                time.sleep(0.5)

            def test_last({looks}):
                open("log", "a").write("{name} ends\\n")
            """,
            f"test_{name}.py",
        )
    files = ("test_a.py", "test_fault.py", "test_b.py")
    runs.pytest("-n3", *files, spawn=True).assert_outcomes(passed=6)
    log = (runs.path / "log").read_text().split("\n")
    broken = log.index("broken")
    assert log[broken + 1] == "repaired"
    for name in ("a", "b"):
        assert not log.index(f"{name} begins") < broken < log.index(f"{name} ends")


PLAIN, USER = Needs(frozenset(), frozenset()), Needs(frozenset({"image"}), frozenset())
BREAKER = Needs(frozenset({"image"}), frozenset({"image"}))


@pytest.mark.parametrize(
    ("busy", "done", "waiting", "taken"),
    [
        pytest.param(["a::plain"], True, "bd", "b", id="in their order"),
        pytest.param(["b::use"], True, "dc", "c", id="not what another worker bars"),
        pytest.param(["e::break"], True, "ca", "a", id="nor what another worker breaks"),
        pytest.param(["b::use"], True, "de", "d", id="all must wait"),
        pytest.param([], False, "ca", "a", id="a step is not done"),
        pytest.param(["e::break"], False, "db", "d", id="neither"),
        pytest.param([], False, "db", "d", id="all wait for a step"),
        pytest.param([], True, "al", "l", id="several files"),
        pytest.param([], False, "la", "a", id="several files that wait for a step"),
        pytest.param(["a::plain", "d::break"], True, "ac", "c", id="what a later test will wait for"),
        pytest.param(["a::plain", "d::break"], True, "acl", "l", id="of those, several files"),
    ],
)
def test_free_worker_takes_a_lane_that_need_not_wait(busy: list[str], done: bool, waiting: str, taken: str) -> None:
    """A lane that would wait comes later, unless nothing else is left; of the others the longest comes first.

    What another worker's later test waits for comes before both.
    """
    needs = {"a::plain": PLAIN, "b::use": USER, "c::use": USER, "d::break": BREAKER, "e::break": BREAKER}
    lanes = {test[0]: [test] for test in needs}
    lanes["l"] = ["one::use", "two::use"]
    needs |= dict.fromkeys(lanes["l"], USER)
    assert (
        next_lane({lane: lanes[lane] for lane in waiting}, [busy] if busy else [], needs, lambda _step: done) == taken
    )


@pytest.mark.parametrize(
    ("turns", "waiting", "taken"),
    [
        pytest.param({"b::use"}, "ac", "c", id="one that it waits for anyway"),
        pytest.param({"b::use"}, "ae", "a", id="not one that breaks the same"),
        pytest.param({"d::break"}, "ca", "a", id="it has its turn: nobody else may wait for it"),
        pytest.param(set(), "ca", "a", id="it may have its turn"),
    ],
)
def test_what_waits_for_its_turn_comes_later(turns: set[str], waiting: str, taken: str) -> None:
    """A test that breaks what another worker uses waits: meanwhile others may begin to use it, too."""
    needs = {"a::plain": PLAIN, "b::use": USER, "c::use": USER, "d::break": BREAKER, "e::break": BREAKER}
    lanes = {test[0]: [test] for test in needs}
    busy = [["b::use"], ["d::break"]]
    left = {lane: lanes[lane] for lane in waiting}
    assert next_lane(left, busy, needs, lambda _step: True, turns.__contains__) == taken


def test_lanes_that_need_not_wait_come_first(runs: Runs) -> None:
    """One worker uses what the next file disturbs: the other one tests the file after that, and nobody waits."""
    runs.tests(
        """
        from pathlib import Path
        from stackspec.waiting import wait_for

        def test_long(image):
            Path("begun").touch()
            wait_for("the next file", Path("log").exists, 60, every=0.1)

        def test_more(image):
            open("log", "a").write("long\\n")

        def test_most(image): pass
        """,
        "test_a.py",
    )
    for name, mark in (("b", "@pytest.mark.disturbs('image')"), ("c", "")):
        runs.tests(
            f"""
            from pathlib import Path
            import pytest
            from stackspec.waiting import wait_for

            {mark}
            def test_it(image):
                wait_for("the first file", Path("begun").exists, 60, every=0.1)
                open("log", "a").write("{name}\\n")
            """,
            f"test_{name}.py",
        )
    files = ("test_a.py", "test_b.py", "test_c.py")
    runs.pytest("--deploy", "-n2", *files, spawn=True).assert_outcomes(passed=5)
    log = (runs.path / "log").read_text().split()
    assert [line for line in log if line in ("long", "b", "c")] == ["c", "long", "b"]


def test_disturbing_tests_run_last_in_their_lane(runs: Runs) -> None:
    """Its step is done before others, but the lane does not wait there for all users of that step."""
    lane = "import pytest\npytestmark = [pytest.mark.lane('long')"
    test = "\ndef test_it({step}):\n    open('log', 'a').write('{word}\\n')\n"
    runs.tests(f"{lane}, pytest.mark.disturbs('base')]" + test.format(step="base", word="break"), "test_a.py")
    runs.tests(f"{lane}]" + test.format(step="image", word="use"), "test_b.py")
    runs.pytest("--deploy", "-n1", "test_a.py", "test_b.py", spawn=True).assert_outcomes(passed=2)
    log = (runs.path / "log").read_text().split()
    assert [line for line in log if line in ("break", "use")] == ["use", "break"]


def test_disturbing_test_without_a_step_is_refused(runs: Runs) -> None:
    runs.tests("import pytest\n@pytest.mark.disturbs('imege')\ndef test_it(image): pass\n")
    result = runs.pytest("--deploy")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_cloud.py::test_it: mark disturbs: no step imege"])


def test_turns_are_taken_completely_or_not_at_all(tmp_path: Path) -> None:
    one, two, three = (Turns(tmp_path) for _ in range(3))
    one.take("a", Needs(frozenset({"nova", "cinder"}), frozenset()))
    assert not two._try({"cinder": 2, "glance": 2})
    assert three._try({"glance": 2}), "who waits holds nothing"
    three.give_back()
    one.give_back()
    assert two._try({"cinder": 2, "glance": 2})


@pytest.mark.parametrize("shared", [True, False])
def test_claim_has_one_owner(tmp_path: Path, shared: bool) -> None:
    first = Claims(tmp_path / "told" if shared else None)
    second = Claims(tmp_path / "told") if shared else first
    assert first.claim("nova on one")
    assert not second.claim("nova on one")
    assert "nova on one" in second
    assert "nova on two" not in second


def test_connections_stay_open_after_the_drift_check(runs: Runs) -> None:
    """Other tests of a worker that use them continue."""
    runs.tests(
        """
        from stackspec.plugin.session import RUN

        held = []

        def test_before(base, request):
            engine = request.config.stash[RUN].engine
            engine.connections.open()
            held.append(engine.connections["one"])

        def test_after(declared, request):
            run = request.config.stash[RUN]
            run.changes(declared)
            assert run.engine.connections["one"] is held[0]
        """,
        "test_held.py",
    )
    result = runs.pytest("--deploy", "-n1", "test_held.py", spawn=True)
    assert set(result.parseoutcomes()) == {"passed"}

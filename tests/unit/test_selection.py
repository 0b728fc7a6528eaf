"""The selected tests decide what is installed; tests run as early as possible, and none is charged for waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackspec import suite

from . import fake_nodes
from .plugin_runs import Runs


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["-k", "identity"], {"base", "database", "identity"}),
        (["test_cloud.py::test_image"], {"base", "database", "identity", "image"}),
        (["test_first.py"], {"base"}),
        (["-m", "early"], {"base"}),
        (["--deselect", "test_cloud.py", "test_first.py", "test_cloud.py"], {"base"}),
        (["test_cloud.py::test_without_steps"], set()),
        (["-k", "nosuchtest"], set()),
        (["-k", "no such test"], set()),
        (["test_cloud.py::test_nothing"], set()),
    ],
)
def test_only_needed_steps_are_installed(runs: Runs, arguments: list[str], steps: set[str]) -> None:
    runs.tests("import pytest\n@pytest.mark.early\ndef test_base(base): pass\n", "test_first.py")
    (runs.path / "pytest.ini").write_text("[pytest]\nlanes = 0\nmarkers = early\n")
    runs.pytest("--deploy", *arguments)
    words = {"/etc/name": "base", "database.conf": "database", "identity.conf": "identity", "image": "image"}
    words |= {"agent": "agent", "compute-sync": "compute"}
    log = runs.log()
    assert {step for word, step in words.items() if any(word in entry for entry in log)} == steps


@pytest.mark.parametrize(
    ("arguments", "tests"),
    [
        (["--deploy", "tests"], {"infra"}),
        (["--deploy"], {"infra"}),
        (["--deploy", "tests/infra", "tests/unit/test_made_up.py"], {"infra", "unit"}),
        (["tests"], {"infra", "unit"}),
        (["tests/outage"], {"outage"}),
        (["tests/errata"], {"errata"}),
        (["--deploy", "tests/infra", "tests/outage/test_made_up.py"], {"infra", "outage"}),
    ],
)
def test_some_tests_run_only_when_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str], tests: set[str]
) -> None:
    """`./run --deploy tests/` proves the cloud: the suite's own tests would cost CPU time, an outage the site."""
    monkeypatch.setenv("STACKSPEC_STATE", str(pytester.path / "state"))
    monkeypatch.setattr(suite, "home", lambda: pytester.path)
    for folder in ("infra", "unit", "outage", "errata"):
        (pytester.path / "tests" / folder).mkdir(parents=True)
        (pytester.path / "tests" / folder / "test_made_up.py").write_text(f"def test_{folder}(): pass\n")
    (pytester.path / "conftest.py").write_text((Path(__file__).parents[2] / "conftest.py").read_text())
    (pytester.path / "site.yaml").write_text(fake_nodes.SITE)
    result = pytester.runpytest_inprocess(
        "--inventory", "site.yaml", "--import-mode=importlib", "-v", "-n0", *arguments
    )
    result.assert_outcomes(passed=len(tests))
    for name in tests:
        result.stdout.fnmatch_lines([f"*test_{name} PASSED*"])


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        (["stackspec.tests"], {"outage", "errata"}),
        (["stackspec.tests.api", "stackspec.tests.outage.test_power_loss::test_a"], {"errata"}),
        (["stackspec.tests.errata"], {"outage"}),
    ],
)
def test_modules_of_the_package_name_tests_as_well(words: list[str], left_out: set[str], tmp_path: Path) -> None:
    """`pytest --pyargs stackspec.tests` takes no site down."""
    folders = ("infra", "api", "e2e", "outage", "errata")
    found = {name for name in folders if suite.runs_only_when_named(suite.home() / "tests" / name, words, tmp_path)}
    assert found == left_out


def test_steps_of_a_mark_are_installed(runs: Runs) -> None:
    runs.tests(
        """
        import pytest

        @pytest.mark.steps("image")
        def test_it(pytestconfig):
            from stackspec.plugin.session import RUN
            tasks = pytestconfig.stash[RUN].engine.tasks
            assert {task.state for task in tasks if task.step.name == "image"} == {"done"}
        """
    )
    runs.pytest("--deploy").assert_outcomes(passed=1)


def test_step_that_is_not_part_of_the_site(runs: Runs) -> None:
    """Tests that use it, directly or through a fixture, are skipped; those of steps that run after it are not."""
    runs.steps(
        """
        import pytest

        @step(role="controller", section="octavia")
        def balancer(site, identity):
            yield Service("balancer")

        @step(role="controller")
        def dashboard(site, identity, balancer):
            yield Service("dashboard")

        @pytest.fixture
        def traffic(balancer):
            return 1
        """
    )
    runs.tests(
        """
        import pytest

        def test_dashboard(dashboard): pass
        def test_both(dashboard, balancer): pass
        def test_traffic(traffic): pass
        @pytest.mark.steps("balancer")
        def test_mark(): pass
        """
    )
    for mode in ("--deploy", "--strict-markers"):
        result = runs.pytest(mode)
        result.assert_outcomes(passed=1, skipped=3)
        result.stdout.fnmatch_lines(["*balancer is not part of the site*its inventory has no section 'octavia'*"])


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan"])
@pytest.mark.parametrize("mode", [[], ["--deploy"], ["--plan"]], ids=["check", "deploy", "plan"])
def test_collection_options_change_nothing(runs: Runs, option: str, mode: list[str]) -> None:
    """Trap 17: no connection, no file, no secret, in any mode."""
    runs.tests("def test_as_declared(declared): pass\n", "test_drift.py")
    before = runs.files()
    result = runs.pytest(option, *mode)
    assert result.ret == 0
    assert runs.files() == before


def test_tests_stay_in_order_and_steps_are_set_up_once(runs: Runs) -> None:
    """Trap 3: a parametrized session fixture reorders tests and may be set up twice. Nodes are data here."""
    runs.tests(
        """
        import pytest

        @pytest.fixture(params=["b", "a"])
        def letter(request): return request.param

        def test_agents(agent, letter): pass
        def test_compute(compute, letter): pass
        @pytest.mark.parametrize("number", [2, 1])
        def test_more(letter, number, agent): pass
        def test_again(agent): pass
        """
    )
    result = runs.pytest("-v", "--setup-show")
    names = [line.split()[0] for line in result.stdout.lines if "::" in line and not line.startswith(" ")]
    wanted = ["test_agents[b]", "test_agents[a]", "test_compute[b]", "test_compute[a]"]
    wanted += ["test_more[b-2]", "test_more[b-1]", "test_more[a-2]", "test_more[a-1]", "test_again"]
    assert names == [f"test_cloud.py::{name}" for name in wanted]
    for name in ("base", "database", "identity", "compute", "agent"):
        assert sum(line.split()[:3] == ["SETUP", "S", name] for line in result.stdout.lines) == 1


def test_tests_run_while_later_steps_install(runs: Runs) -> None:
    """The step `late` ends only after the test of an earlier step has run, which is after it in the file."""
    go_on = runs.path / "go-on"
    runs.steps(
        f"""
        @step(role="controller")
        def late(site, identity):
            yield Command(("await", "{go_on}"), unless=("look", "{go_on}"))
        """
    )
    runs.tests(
        f"""
        from pathlib import Path
        from stackspec.plugin.session import RUN

        def test_late(late): pass

        def test_identity(identity, pytestconfig):
            states = [task.state for task in pytestconfig.stash[RUN].engine.tasks if task.step.name == "late"]
            assert states in (["waiting"], ["running"])
            Path("{go_on}").touch()
        """
    )
    runs.pytest("--deploy").assert_outcomes(passed=2)


def test_files_stay_together_within_a_rank(runs: Runs) -> None:
    """Tests of the same step run in file order, so that module fixtures are created once."""
    for name in ("test_b.py", "test_a.py"):
        runs.tests("def test_image(image): pass\ndef test_plain(): pass\ndef test_base(base): pass\n", name)
    result = runs.pytest("--deploy", "-v", "test_b.py", "test_a.py")
    names = [line.split()[0] for line in result.stdout.lines if "PASSED" in line]
    order = [f"test_{file}.py::test_{name}" for name in ("plain", "base", "image") for file in "ba"]
    assert names == order


def test_no_test_is_charged_for_waiting(runs: Runs) -> None:
    """Trap 2: pytest would add a session fixture's time to the first test that requests it."""
    runs.prepare("one", seconds={"systemctl restart identity": 1.0})
    result = runs.pytest("--deploy", "-k", "identity", "--durations=0", "-vv")
    result.assert_outcomes(passed=1, deselected=5)
    seconds = [float(line.split()[0][:-1]) for line in result.stdout.lines if line.endswith("::test_identity")]
    assert len(seconds) == 3
    assert sum(seconds) < 0.8
    assert result.duration > 1.0


def test_plan_prints_every_change_and_makes_none(runs: Runs) -> None:
    runs.prepare("one", files={**bare_files(), "/etc/database.conf": {"content": "[server]\nbind = 127.0.0.1\n"}})
    result = runs.pytest("--plan", "-k", "identity or agents")
    assert result.ret == 0
    result.assert_outcomes(deselected=4)
    result.stdout.fnmatch_lines(
        [
            "one",
            "*base: 1 change",
            "*~ write /etc/name",
            "*+one*",
            "*database: 3 changes",
            "*~ install database-server",
            "*~ write /etc/database.conf",
            "*-bind = 127.0.0.1*",
            "*+bind = 10.99.0.1*",
            "*~ restart database-server, enable database-server",
            "*identity: 4 changes",
            "*+password = [*][*][*]*",
            "two",
            "*agent: 2 changes",
            "three",
            "plan: 16 changes on 3 nodes; nothing was touched",
        ]
    )
    assert "image" not in result.stdout.str()
    assert runs.log() == []
    assert not {name for name in runs.files() if "secrets" in name or "ledger" in name}


def test_second_deployment_changes_nothing(runs: Runs) -> None:
    runs.pytest("--deploy").assert_outcomes(passed=6)
    assert runs.log()
    result = runs.pytest("--deploy")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["stackspec: 0 changes; 9 done"])
    assert runs.log() == []
    result = runs.pytest("--plan")
    result.stdout.fnmatch_lines(["plan: 0 changes on 3 nodes; nothing was touched"])


def test_collection_error_installs_nothing(runs: Runs) -> None:
    """Part of a selection is not what the user requested."""
    runs.tests("import no_such_module\n", "test_broken.py")
    result = runs.pytest("--deploy")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert runs.node("one") == {}
    runs.pytest("--deploy", "--continue-on-collection-errors").assert_outcomes(passed=6, errors=1)


def bare_files() -> dict[str, dict[str, str]]:
    """The files of a bare node."""
    return dict(fake_nodes.BARE["files"])

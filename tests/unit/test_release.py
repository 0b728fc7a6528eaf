"""Release tables: every key is used; typos are reported with file, line and a suggestion."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stackspec import release
from stackspec.errors import InputError
from stackspec.release import Release, ReleaseValue, load_release
from stackspec.release_check import check_release
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from . import fake_nodes
from .bare import NamedSecrets, context, lab_site
from .guide_plan import ROOT
from .plugin_runs import Runs

TABLES = sorted(path.stem for path in (ROOT / "releases").glob("*.yaml"))
STEP = """
from stackspec.release import ReleaseValue

ZONE = ReleaseValue("zone_file")
PORT = ReleaseValue("port", "53")

@step(role="controller", provides="dns")
def designate(site, base):
    yield File("/etc/zone", site.release.value(ZONE) + ":" + site.release.value(PORT))
"""
"""A step that reads two values, one of which is required."""


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_valid(name: str) -> None:
    load_steps()
    check_release(name, STEPS)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "epoxy-trixie",
            "  novnc_page:",
            "  novnc_pge:",
            "values.novnc_pge: no step reads it; did you mean 'novnc_page'?",
        ),
        ("caracal-jammy", "  skyline:", "  skylin:", "values.skylin: no step reads it; did you mean 'skyline'?"),
        ("caracal-jammy", "  skyline: ", "  # ", "values.skyline is missing: the step skyline_apiserver requires it"),
        ("caracal-jammy", "values:", "vlues:", "unknown key 'vlues'; did you mean 'values'? (known here: config, "),
        ("epoxy-trixie", "  nova_compute:\n", "  nova_comput:\n", "config.nova_comput: there is no such step; did you"),
        (
            "caracal-jammy",
            "values:",
            "without: {horzon: new}\nvalues:",
            "without.horzon: there is no such step; did you",
        ),
        ("epoxy-trixie", "  swift_storage: [", "  swift_disk: [", "unwanted.swift_disk: there is no such step; did"),
        ("epoxy-trixie", "name: epoxy-trixie", "name: epoxy", "name: 'epoxy' is in the file of 'epoxy-trixie'"),
        (
            "caracal-bookworm",
            "      owner: heat\n      units:\n        heat-engine",
            "      owner: haet\n      units:\n        heat-engine",
            "wheels.packages.heat-engine.owner.haet: wheels.owners has no such user; did you mean 'heat'?",
        ),
    ],
)
def test_typo_is_reported(
    name: str, old: str, new: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_steps()
    text = (ROOT / f"releases/{name}.yaml").read_text()
    assert text.count(old) == 1
    file = tmp_path / f"{name}.yaml"
    file.write_text(text.replace(old, new))
    monkeypatch.setattr(release, "_folder", lambda: tmp_path)
    with pytest.raises(InputError) as raised:
        check_release(name, STEPS)
    path, line, rest = str(raised.value).split(":", 2)
    assert rest.strip().startswith(message)
    key = re.split(r"\W", new.strip())[0]
    where = "values:" if "is missing" in message else new.splitlines()[0] if "owner" in message else f"{key}:"
    assert path == str(file)
    assert where in file.read_text().splitlines()[int(line) - 1]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            '\n  python: "3.11"\n',
            '\n  python: "3.12"\n',
            '  python: "3.12"',
            "wheels.python is 3.12, but distribution.python is 3.11",
        ),
        (
            "    - octavia==14.0.2\n",
            "",
            "    octavia-api:",
            "no version of octavia (package octavia-api) in wheels.projects or in caracal-upper-constraints.txt",
        ),
        (
            "  constraints: caracal-upper-constraints.txt",
            "  constraints: nosuch.txt",
            "  constraints: nosuch.txt",
            "nosuch.txt: No such file or directory; put the file next to the table",
        ),
        (
            "        - /usr/bin/neutron-rootwrap /etc/neutron/rootwrap.conf *",
            '        - "/usr/bin/neutron-rootwrap, ALL"',
            '        - "/usr/bin/neutron-rootwrap, ALL"',
            "that sudo reads itself",
        ),
    ],
)
def test_mistake_in_a_table_of_wheels_is_reported(
    old: str, new: str, line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_steps()
    text = (ROOT / "releases/caracal-bookworm.yaml").read_text()
    assert text.count(old) == 1
    file = tmp_path / "caracal-bookworm.yaml"
    file.write_text(text.replace(old, new))
    shutil.copy(ROOT / "releases/caracal-upper-constraints.txt", tmp_path)
    monkeypatch.setattr(release, "_folder", lambda: tmp_path)
    with pytest.raises(InputError) as raised:
        check_release("caracal-bookworm", STEPS)
    path, number, rest = str(raised.value).split(":", 2)
    assert (path, file.read_text().splitlines()[int(number) - 1]) == (str(file), line)
    assert rest.endswith(message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{zone_flie: /etc/zones}", "5: values.zone_flie: no step reads it; did you mean 'zone_file'?"),
        ("{port: '54'}", "5: values.zone_file is missing: the step designate requires it"),
    ],
)
def test_run_ends_with_status_4_and_changes_nothing(runs: Runs, values: str, message: str) -> None:
    runs.steps(STEP)
    runs.release(f"{fake_nodes.RELEASE}values: {values}\n")
    runs.tests("def test_zone(designate): pass\n", "test_zone.py")
    result = runs.pytest("--deploy", "test_zone.py")
    assert result.ret == 4
    said = [line for line in (*result.outlines, *result.errlines) if message in line]
    assert len(said) == 1
    assert f"{runs.path}/releases/epoxy-trixie.yaml:" in said[0]
    assert runs.log() == []
    assert not (runs.path / "state").exists()


def test_missing_value_is_the_default(runs: Runs) -> None:
    runs.steps(STEP)
    runs.release(f"{fake_nodes.RELEASE}values: {{zone_file: /etc/zones}}\n")
    runs.tests("def test_zone(designate): pass\n", "test_zone.py")
    runs.pytest("--deploy", "test_zone.py").assert_outcomes(passed=1)
    assert runs.node("one")["files"]["/etc/zone"]["content"] == "/etc/zones:53"


def test_excluded_step_needs_no_value(runs: Runs) -> None:
    runs.steps(STEP)
    runs.release(f"{fake_nodes.RELEASE}without: {{designate: it was not tried}}\n")
    runs.tests("def test_zone(designate): pass\n", "test_zone.py")
    runs.pytest("--deploy", "test_zone.py").assert_outcomes(skipped=1)


def test_steps_read_values_through_declarations() -> None:
    """If a step used a string, nobody would notice a typo."""
    found = [path.name for path in (ROOT / "deploy_steps").glob("*.py") if "release.values" in path.read_text()]
    assert found == []


def test_each_value_is_read_in_the_step_function() -> None:
    """In the step function itself, not in a function that it calls."""
    load_steps()
    read = {value for step in STEPS.values() for value in step.values}
    files = {step.declare.__module__: sys.modules[step.declare.__module__] for step in STEPS.values()}
    declared = {f"{file}.{name}": each for file, module in files.items() for name, each in vars(module).items()}
    values = {name: each for name, each in declared.items() if isinstance(each, ReleaseValue)}
    assert len(values) >= 7
    assert [f"{name}: no step's own function reads it" for name, each in values.items() if each not in read] == []


@pytest.mark.parametrize("name", TABLES)
def test_each_translated_name_is_used_by_a_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the guide's own name would be used, and nobody would notice the typo."""
    used: dict[str, set[str]] = {"package": set(), "unit": set(), "path": set()}

    def recorder(method: str) -> Callable[[Release, str], object]:
        real: Callable[[Release, str], object] = getattr(Release, method)

        def note(self: Release, what: str) -> object:
            used[method].add(what)
            return real(self, what)

        return note

    for method in used:
        monkeypatch.setattr(Release, method, recorder(method))
    load_steps()
    # Steps that the release excludes may already have names in its table; without values they cannot be run.
    written = load_release(name)
    unsaid = {
        step: reason
        for step, reason in written.without.items()
        if any(value.default is None and value.name not in written.values for value in STEPS[step].values)
    }
    table = written.model_copy(update={"without": unsaid})
    site = Site(lab_site().inventory, table, NamedSecrets())
    for step in STEPS.values():
        for node in step.nodes(site):
            here = context(site, node)
            for each in step.resources(site, node):
                if not each.on_runner:
                    list(each.queries(site, node))
                    each.changes(here)
    unused = {
        "packages": table.packages.keys() - used["package"],
        "units": table.units.keys() - used["unit"],
        "paths": table.paths.keys() - used["path"],
        "wheels.packages": (table.wheels.packages if table.wheels else {}).keys() - used["package"],
    }
    problems = [
        f"releases/{name}.yaml: {part}.{key}: no step asks for it" for part, keys in unused.items() for key in keys
    ]
    assert problems == []

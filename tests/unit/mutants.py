"""Wrong steps, made on purpose: each changes one thing that the steps declare, or a release table, and has a name.

A mutant is killed when the comparison with the guide reports a problem.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any

from ruamel.yaml import YAML

from stackspec.errors import InputError
from stackspec.openstack import Database, DbSync, Endpoint, RoleAssignment, ServiceUser
from stackspec.release import Release
from stackspec.resources import (
    Answers,
    Command,
    File,
    IniFile,
    Lines,
    Packages,
    PythonSettings,
    Resource,
    Service,
    YamlFile,
)
from stackspec.resources.service import Unwanted

from . import beyond, conformity
from .code_mutants import CODE, wrong_code
from .fact_kinds import Fact
from .guide_order import order_problems
from .guide_plan import NodePlan, Plan, guide_site, plan_of, site_with

SURVIVORS = Path(__file__).parent / "data/survivors.yaml"
OF_A_KIND = 3
"""Mutants of each kind that the unit tests try, per release; benchmarks/mutants.py tries all of them."""
Resources = list[Resource]


@dataclass(frozen=True)
class Mutant:
    """A wrong step.

    :param kind: the kind of change
    :param name: where and what, as text
    :param release: the release of the plan
    :param make: creates the wrong plan
    :param step: the changed step; "" for a release table
    :param nodes: the nodes where it is changed
    """

    kind: str
    name: str
    release: str
    make: Callable[[], Plan]
    step: str = ""
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.release}: {self.kind}: {self.name}"


def complaint(mutant: Mutant) -> str:
    """The first problem that the comparison reports for a mutant; "" if the mutant survives."""
    try:
        plan = mutant.make()
        for each in plan.nodes.values():
            assert each.after.done
    except (InputError, KeyError, ValueError, IndexError) as error:
        # A plan that cannot be created fails every test that uses it.
        return f"there is no such plan: {type(error).__name__}: {error}"
    return next(complaints(mutant, plan), "")


def complaints(mutant: Mutant, plan: Plan) -> Iterator[str]:
    """The problems that the comparison reports, the likely ones first."""
    deliberate = conformity.load_deliberate(mutant.release)
    chapter = beyond.CHAPTER_OF.get(mutant.step, "")
    facts = sorted(conformity.load_facts(), key=lambda fact: fact["step"] != chapter)
    only = mutant.nodes
    here = [each for each in plan.nodes.values() if not only or each.node.name in only]
    for each in here:
        yield from each.after.guards
    own = [fact for fact in facts if not chapter or fact["step"] == chapter]
    yield from _missing(own, deliberate, plan, only)
    for each in here:
        yield from order_problems(each, facts)
    yield from beyond.differences(plan, mutant.release, deliberate, [mutant.step] if mutant.step else ())
    yield from _missing([fact for fact in facts if fact not in own], deliberate, plan, only)


def _missing(facts: list[Fact], deliberate: conformity.Deliberate, plan: Plan, only: tuple[str, ...]) -> Iterator[str]:
    for fact in facts:
        if only and not {node.name for node in conformity.nodes_of(fact, plan.site)} & set(only):
            continue
        verdict = conformity.judge(fact, deliberate, plan, only)
        if verdict.status == "missing":
            yield f"{fact['id']}: {verdict.why}"


def mutants(release: str) -> Iterator[Mutant]:
    """All mutants of a release: for each kind the first match in each step, on the step's first node."""
    plan = conformity.guide_plan(release)
    for step in beyond.CHAPTER_OF:
        here = next((each for each in plan.nodes.values() if each.steps.get(step)), None)
        if here is not None:
            for kind, change in CHANGES.items():
                for what, resources in change(here.steps[step]):
                    yield _of_step(kind, f"{step}: {what}", release, here, step, resources)
    yield from _tables(plan.site.release)
    for owner, method, old, new in CODE:
        yield _of_code(release, owner, method, old, new)


def _of_step(kind: str, name: str, release: str, here: NodePlan, step: str, resources: Resources) -> Mutant:
    def make() -> Plan:
        return conformity.guide_plan(release).with_step(here.node.name, step, resources)

    return Mutant(kind, name, release, make, step, (here.node.name,))


Changed = Iterator[tuple[str, Resources]]
"""What was changed, as text, and the resources with the change."""
Change = Callable[[Resources], Changed]
"""A kind of mutants: all of them in the resources of a step."""


def _every(each: Any) -> bool:
    return True


def _title(each: Any) -> str:
    return str(each.title)


def _path(each: Any) -> str:
    return str(each.path)


def _first(
    resources: Resources, kind: type[Any] | UnionType, wanted: Callable[[Any], bool] = _every
) -> list[tuple[int, Any]]:
    """The first resource of a kind that is wanted, with its place; empty if there is none."""
    return [(place, each) for place, each in enumerate(resources) if isinstance(each, kind) and wanted(each)][:1]


def first(
    kind: type[Any] | UnionType,
    wrong: Callable[[Any], Resource | None],
    name: Callable[[Any], str] = _title,
    wanted: Callable[[Any], bool] = _every,
) -> Change:
    """The first resource of a kind is a wrong one, or missing.

    :param wrong: creates the wrong one from the correct one; None: it is missing
    :param name: the mutant's name
    :param wanted: which resources of the kind count
    """

    def change(resources: Resources) -> Changed:
        for place, each in _first(resources, kind, wanted):
            instead = wrong(each)
            if instead != each:
                yield name(each), _with(resources, place, *([] if instead is None else [instead]))

    return change


def later(kind: type[Any] | UnionType, wrong: Callable[[Any], Resource], name: Callable[[Any], str] = _title) -> Change:
    """What the first resource of a kind declares is made wrong by another one at the end of the step."""

    def change(resources: Resources) -> Changed:
        for _, each in _first(resources, kind):
            yield name(each), [*resources, wrong(each)]

    return change


def _next_port(url: str) -> str:
    return re.sub(r":(\d+)", lambda match: f":{int(match[1]) + 1}", url)


def _with(resources: Resources, place: int, *instead: Resource) -> Resources:
    return [*resources[:place], *instead, *resources[place + 1 :]]


def _options(resources: Resources) -> Iterator[tuple[int, IniFile, str, str, Any]]:
    for place, each in enumerate(resources):
        if isinstance(each, IniFile):
            for section, options in each.options.items():
                for key, value in options.items():
                    yield place, each, section, key, value


def _set(each: IniFile, section: str, key: str, value: Any) -> IniFile:
    options = {name: dict(values) for name, values in each.options.items()}
    options[section][key] = value
    return replace(each, options=options)


def option_dropped(resources: Resources) -> Changed:
    """The middle one of a step's options is no longer declared."""
    found = list(_options(resources))
    if found:
        place, each, section, key, _ = found[len(found) // 2]
        options: dict[str, dict[str, Any]] = {name: dict(values) for name, values in each.options.items()}
        del options[section][key]
        yield f"{each.path} [{section}] {key}", _with(resources, place, replace(each, options=options))


def value_changed(resources: Resources) -> Changed:
    """The last text option has another value."""
    found = [each for each in _options(resources) if isinstance(each[4], str) and "secret-of" not in each[4]]
    if found:
        place, each, section, key, value = found[-1]
        yield f"{each.path} [{section}] {key}", _with(resources, place, _set(each, section, key, f"{value}x"))


def secret_swapped(resources: Resources) -> Changed:
    """An option has the secret of another account: the user's instead of the database's, or the reverse."""
    seen: set[str] = set()
    for place, each, section, key, value in _options(resources):
        match = re.search(r"secret-of-[a-z0-9-]+", str(value))
        kind = "database" if match and match[0].endswith("-database") else "other"
        if match and kind not in seen:
            seen.add(kind)
            other = match[0].removesuffix("-database") if kind == "database" else f"{match[0]}-database"
            wrong = _set(each, section, key, str(value).replace(match[0], other))
            yield f"{each.path} [{section}] {key}", _with(resources, place, wrong)


def port_changed(resources: Resources) -> Changed:
    """The first port in an option is another one."""
    for place, each, section, key, value in _options(resources):
        if match := re.search(r":(\d{4,5})\b", str(value)):
            wrong = str(value).replace(match[0], f":{int(match[1]) + 1}")
            yield f"{each.path} [{section}] {key}", _with(resources, place, _set(each, section, key, wrong))
            return


def file_overruled(resources: Resources) -> Changed:
    """The file is declared again at the end of the step, with another value of its last option."""
    found = [each for each in _options(resources) if isinstance(each[4], str)]
    if found:
        _, each, section, key, value = found[-1]
        again = IniFile(each.path, {section: {key: f"{value}x"}})
        yield f"{each.path} [{section}] {key}", [*resources, again]


def section_taken_over(resources: Resources) -> Changed:
    """A later declaration owns a section without declaring its options."""
    found = list(_options(resources))
    if found:
        _, each, section, _, _ = found[-1]
        again = IniFile(each.path, {section: {"shipped": "1"}}, own=(section,))
        yield f"{each.path} [{section}]", [*resources, again]


def line_changed(resources: Resources) -> Changed:
    """The last line of a file is different."""
    for place, each in _first(resources, File, lambda each: "\n" in each.content and "-----BEGIN" not in each.content):
        *lines, last = each.content.rstrip("\n").split("\n")
        wrong = replace(each, content="\n".join([*lines, f"{last}x", ""]))
        yield f"{each.path}: {last}", _with(resources, place, wrong)
    for place, each in _first(resources, Lines):
        wrong = replace(each, lines=(*each.lines[:-1], f"{each.lines[-1]}x"))
        yield f"{each.path}: {each.lines[-1]}", _with(resources, place, wrong)


def service_before_its_file(resources: Resources) -> Changed:
    """The first service comes before the last file that it reads."""
    for place, each in _first(resources, Service):
        files = [
            i
            for i, file in enumerate(resources[:place])
            if isinstance(file, IniFile | File | Lines) and (each.reads is None or file.path in each.reads)
        ]
        if files:
            rest = _with(resources, place)
            yield each.names[0], [*rest[: files[-1]], each, *rest[files[-1] :]]


def schema_before(kind: type[Resource]) -> Change:
    """The schema is created before something of this kind that its tool needs, or after something that needs it."""

    def change(resources: Resources) -> Changed:
        for place, schema in _first(resources, DbSync):
            rest = _with(resources, place)
            found = [i for i, each in enumerate(rest) if isinstance(each, kind)]
            if found:
                to = found[-1] + 1 if issubclass(kind, Service) else found[0]
                yield schema.title, [*rest[:to], schema, *rest[to:]]

    return change


def guard_always_true(resources: Resources) -> Changed:
    """A command is never due: a command that always exits with 0, the same in a shell, or a file that always exists."""
    for place, each in _first(resources, Command):
        for words, guard in (
            ("unless true", {"unless": ("true",), "unless_stdin": "", "creates": ""}),
            ("unless a shell's true", {"unless": ("sh", "-c", "true || false"), "unless_stdin": "", "creates": ""}),
            ("creates a file of each machine", {"unless": (), "creates": "/etc/passwd"}),
        ):
            yield f"{each.title}: {words}", _with(resources, place, replace(each, **guard))


def guard_of_another(resources: Resources) -> Changed:
    """A guard checks the database for the effect of another command."""
    for place, each in enumerate(resources):
        if isinstance(each, Command) and "cell1" in each.unless_stdin:
            wrong = replace(each, unless_stdin=each.unless_stdin.replace("cell1", "cell0"))
            yield each.title, _with(resources, place, wrong)


def database_dropped(resources: Resources) -> Changed:
    """The last database of the step is not created."""
    places = [i for i, each in enumerate(resources) if isinstance(each, Database)]
    if places:
        yield resources[places[-1]].title, _with(resources, places[-1])


def role_before_it_is_made(resources: Resources) -> Changed:
    """An assignment comes before everything that creates its role."""
    for place, each in _first(resources, RoleAssignment):
        yield each.title, [each, *_with(resources, place)]


def packages_last(resources: Resources) -> Changed:
    """The step's packages are declared last."""
    for place, each in _first(resources, Packages):
        if place < len(resources) - 1:
            yield each.title, [*_with(resources, place), each]


def setting_changed(resources: Resources) -> Changed:
    """The first setting of each type has another value; secrets as well."""
    for place, each in _first(resources, PythonSettings | YamlFile):
        seen: set[str] = set()
        for key, value in beyond.flat(each.settings):
            kind = "secret" if "secret-of" in str(value) else type(value).__name__
            other = str(value).replace("secret-of", "another-secret-of") if kind == "secret" else _other(value)
            if other != value and (kind not in seen or kind == "secret"):
                seen.add(kind)
                settings = _with_setting(each.settings, key.split("."), other)
                yield f"{each.path}: {key}", _with(resources, place, replace(each, settings=settings))


def _with_setting(settings: Mapping[str, Any], key: list[str], value: Any) -> dict[str, Any]:
    outer, *rest = key
    return {**settings, outer: _with_setting(settings[outer], rest, value) if rest else value}


def _other(value: Any) -> Any:
    """A different value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, tuple | list):
        return value[:-1]
    return value


def argument_changed(resources: Resources) -> Changed:
    """Each argument is changed in the first resource of each kind that no other mutant here covers."""
    seen: set[type] = set()
    for place, each in enumerate(resources):
        if type(each) in seen or isinstance(each, ON_PURPOSE):
            continue
        seen.add(type(each))
        for field in dataclasses.fields(each):  # type: ignore[arg-type]
            value = getattr(each, field.name)
            if _other(value) != value:
                wrong = replace(each, **{field.name: _other(value)})  # type: ignore[type-var]
                yield f"{each.title}: {field.name}", _with(resources, place, wrong)


def resource_dropped(resources: Resources) -> Changed:
    """The first resource of each kind that no other mutant here covers is missing."""
    seen: set[type] = set()
    for place, each in enumerate(resources):
        if type(each) not in seen and not isinstance(each, ON_PURPOSE):
            seen.add(type(each))
            yield each.title, _with(resources, place)


ON_PURPOSE = (Answers, Command, DbSync, File, IniFile, Lines, Packages, PythonSettings, Service, YamlFile)
CHANGES: Mapping[str, Change] = {
    "option dropped": option_dropped,
    "value changed": value_changed,
    "secret swapped": secret_swapped,
    "port changed": port_changed,
    # The file's other options are kept.
    "section not owned": first(
        IniFile,
        lambda file: replace(file, own=file.own[1:]),
        lambda file: f"{file.path} {file.own[0]}",
        lambda file: bool(file.own),
    ),
    "option overruled later": file_overruled,
    "section taken over later": section_taken_over,
    "file emptied later": later(IniFile | Lines, lambda file: File(file.path, ""), _path),
    "line changed": line_changed,
    # A restricted file becomes readable by everybody.
    "mode changed": first(File, lambda file: replace(file, mode=0o644), _path, lambda file: file.mode != 0o644),
    "package dropped": first(
        Packages, lambda packages: Packages(*packages.names[:-1]), lambda packages: packages.names[-1]
    ),
    "package added": first(Packages, lambda packages: Packages(*packages.names, "telnetd"), lambda packages: "telnetd"),
    "packages last": packages_last,
    "service dropped": first(
        Service,
        lambda service: Service(*service.names[:-1], reads=service.reads) if len(service.names) > 1 else None,
        lambda service: service.names[-1],
    ),
    # It does not restart when its files change.
    "service reads nothing": first(
        Service,
        lambda service: Service(*service.names, reads=()),
        lambda service: service.names[0],
        lambda service: service.reads != (),
    ),
    "service before its file": service_before_its_file,
    "service masked later": later(
        Service, lambda service: Unwanted(service.names[:1]), lambda service: service.names[0]
    ),
    "schema before its file": schema_before(IniFile),
    "schema before its database": schema_before(Database),
    "schema after the service": schema_before(Service),
    "schema dropped": first(DbSync, lambda schema: None),
    # Its guard reads another database.
    "schema of another": first(DbSync, lambda schema: replace(schema, database="keystone2")),
    # As root it creates log files that its service cannot write.
    "tool's user changed": first(
        DbSync | Command, lambda tool: replace(tool, user=""), wanted=lambda tool: bool(tool.user)
    ),
    "argument dropped": first(
        DbSync | Command,
        lambda tool: replace(tool, argv=tool.argv[:-1]),
        lambda tool: " ".join(tool.argv),
        lambda tool: len(tool.argv) > 1,
    ),
    "command dropped": first(Command, lambda command: None),
    "guard always true": guard_always_true,
    # The command is always due.
    "guard never true": first(
        Command, lambda command: replace(command, unless=("false",), unless_stdin="", creates="")
    ),
    "guard of another": guard_of_another,
    # A part of an SQL statement is missing.
    "statement changed": first(
        Command,
        lambda command: replace(command, stdin=command.stdin.replace("User='' OR ", "", 1)),
        wanted=lambda command: bool(command.stdin),
    ),
    "database dropped": database_dropped,
    "database's user changed": first(Database, lambda database: replace(database, user="admin")),
    "port of an endpoint": first(Endpoint, lambda endpoint: replace(endpoint, url=_next_port(endpoint.url))),
    "endpoint again": later(Endpoint, lambda endpoint: replace(endpoint, url=f"{endpoint.url}/other")),
    "service type changed": first(Endpoint, lambda endpoint: replace(endpoint, type=f"{endpoint.type}x")),
    # The service logs in as a user that does not exist.
    "user changed": first(ServiceUser, lambda user: replace(user, name=f"{user.name}x")),
    # The service's user has only the role service.
    "role dropped": first(ServiceUser, lambda user: replace(user, roles=user.roles[1:])),
    "role of another": first(RoleAssignment, lambda role: replace(role, user="nobody")),
    "role before it is made": role_before_it_is_made,
    "setting changed": setting_changed,
    "argument changed": argument_changed,
    "resource dropped": resource_dropped,
    "answer of another port": first(Answers, lambda wait: replace(wait, url=_next_port(wait.url))),
    "answer waited for longer": first(Answers, lambda wait: replace(wait, timeout=wait.timeout * 2)),
}
"""Kind of a mutant -> the function that changes a step's resources."""


def _tables(release: Release) -> Iterator[Mutant]:
    """A line of a release table is missing or shorter."""
    for field in ("packages", "units", "paths", "unwanted", "values", "config"):
        for key in getattr(release, field):
            table = dict(getattr(release, field))
            del table[key]
            yield _of_table(release, field, f"{key} is gone", table)
            value = getattr(release, field)[key]
            if isinstance(value, tuple) and len(value) > 1:
                yield _of_table(release, field, f"{key} is {value[0]} only", {**table, key: value[:1]})
            if isinstance(value, str):
                yield _of_table(release, field, f"{key} is another", {**table, key: f"{value}x"})


def _of_table(release: Release, field: str, what: str, table: Mapping[str, Any]) -> Mutant:
    wrong = release.model_copy(update={field: table})
    make = cache(lambda: plan_of(site_with(wrong), conformity.before()))
    return Mutant("table changed", f"{field}: {what}", release.name, make)


def _of_code(release: str, owner: type[Any], method: str, old: str, new: str) -> Mutant:
    def make() -> Plan:
        with wrong_code(owner, method, old, new):
            plan = plan_of(guide_site(release), conformity.before())
            # Later calls use the correct code again.
            assert all(each.after.done for each in plan.nodes.values())
        return plan

    return Mutant("code changed", f"{owner.__name__}.{method}: {new} for {old}", release, make)


def listed() -> dict[str, str]:
    """Name or glob of surviving mutants -> why they survive."""
    found: dict[str, str] = YAML(typ="safe").load(SURVIVORS.read_text())
    return found


def chosen(release: str) -> list[Mutant]:
    """Some mutants of each kind: spread evenly over the steps, the same in every run."""
    by_kind: dict[str, list[Mutant]] = {}
    for each in mutants(release):
        by_kind.setdefault(each.kind, []).append(each)
    return [each for found in by_kind.values() for each in found[:: max(1, math.ceil(len(found) / OF_A_KIND))]]

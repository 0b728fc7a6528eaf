"""Checks a release table against the steps: everything they read is defined, and nothing is unused."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from functools import partial

from .errors import InputError
from .release import Distribution, Wheels, load_release, table_path
from .step import Step
from .yaml_file import YamlSource, read_yaml


def check_release(name: str, steps: Mapping[str, Step]) -> None:
    """Check that the table called `name` defines everything the steps read, and nothing unused.

    :raises InputError: with file:line and a suggestion
    """
    release = load_release(name)
    _, source = read_yaml(table_path(name))
    if release.name != name:
        raise InputError(f"{source.path}:{source.line(('name',))}: name: {release.name!r} is in the file of {name!r}")
    for table in ("without", "unwanted", "config"):
        _refuse_unknown(source, (table,), getattr(release, table), steps, "there is no such step")
    read = {value.name: value for step in steps.values() for value in step.values}
    _refuse_unknown(source, ("values",), release.values, read, "no step reads it")
    for step in steps.values():
        for value in step.values:
            if value.default is None and value.name not in release.values and step.name not in release.without:
                where = f"{source.path}:{source.line(('values',))}"
                raise InputError(f"{where}: values.{value.name} is missing: the step {step.name} requires it")
    if release.wheels:
        owned = {key: each.owner for key, each in release.wheels.packages.items() if each.owner}
        for key, owner in owned.items():
            at = ("wheels", "packages", key, "owner")
            _refuse_unknown(source, at, (owner,), release.wheels.owners, "wheels.owners has no such user")
        _check_wheels(source, release.wheels, release.distribution)


def _check_wheels(source: YamlSource, wheels: Wheels, distribution: Distribution) -> None:
    """:raises InputError: the wheels are for another Python, or the version of a project is nowhere"""
    if wheels.python != distribution.python:
        where = f"{source.path}:{source.line(('wheels', 'python'))}"
        raise InputError(f"{where}: wheels.python is {wheels.python}, but distribution.python is {distribution.python}")
    reads: dict[tuple[str, ...], Callable[[], str]] = {("wheels", "constraints"): wheels.constraints_text}
    reads |= {("wheels", "packages", name): partial(wheels.version, name) for name in wheels.packages}
    for key, read in reads.items():
        try:
            read()
        except InputError as error:
            text = str(error).removeprefix("release: ")
            raise InputError(f"{source.path}:{source.line(key)}: {text}") from None


def _refuse_unknown(
    source: YamlSource, table: tuple[str, ...], keys: Collection[str], known: Collection[str], wrong: str
) -> None:
    """:raises InputError: one of the `keys` of a table is unknown"""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known)) or 'none'}"
            where = f"{source.path}:{source.line((*table, key))}"
            raise InputError(f"{where}: {'.'.join((*table, key))}: {wrong}; {hint}")

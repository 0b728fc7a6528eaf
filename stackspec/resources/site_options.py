"""Merges the options of release and inventory into the files of a step, transparently for the step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..site import Site
from .base import Resource
from .ini import IniFile
from .packages import Packages
from .service import Service, Unwanted


def with_site_options(step: str, site: Site, resources: list[Resource]) -> list[Resource]:
    """`resources` of `step` with the release's and then the inventory's options, and without unwanted units.

    Options of a file that the step declares are merged into that declaration; other files are declared additionally,
    before the step's first service. If the step declares nothing, as on a node without its disks, nothing is added.
    """
    if not resources:
        return []
    extra: dict[str, dict[str, dict[str, Any]]] = {}
    for source in (site.release.config, site.inventory.config):
        for path, sections in source.get(step, {}).items():
            for section, options in sections.items():
                extra.setdefault(path, {}).setdefault(section, {}).update(options)
    merged: list[Resource] = []
    for resource in resources:
        if isinstance(resource, IniFile) and resource.path in extra:
            resource = dataclasses.replace(resource, options=_merge(resource.options, extra.pop(resource.path)))
        merged.append(resource)
    added: list[Resource] = [IniFile(path, sections, mode=0o644) for path, sections in extra.items()]
    if unwanted := site.release.unwanted.get(step):
        after = max((place for place, each in enumerate(merged) if isinstance(each, Packages)), default=-1) + 1
        merged.insert(after, Unwanted(unwanted))
    first = next((place for place, each in enumerate(merged) if isinstance(each, Service)), len(merged))
    return [*merged[:first], *added, *merged[first:]]


def _merge(
    options: Mapping[str, Mapping[str, Any]], extra: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    result = {section: dict(values) for section, values in options.items()}
    for section, values in extra.items():
        result.setdefault(section, {}).update(values)
    return result

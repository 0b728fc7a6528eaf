"""`stackspec bundle`: one directory with everything a deployment needs besides the distribution's archive."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ActionError, InputError
from ..inventory import BUILT_IMAGES
from ..lab import Lab, load
from ..release_check import check_release
from ..secrets import Secrets
from ..site import Site, check_config, default_inventory
from ..step import STEPS, load_steps
from ..store import LIST, BundleList, Entry, Part, read_list, sha256_of
from ..task import plan_of
from ..which_cloud import which_cloud

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command `bundle` to a command line."""
    text = "collect what a deployment needs besides the distribution's archive; then: --deploy --bundle DIRECTORY"
    parser = subparsers.add_parser("bundle", help=text, description=text)
    parser.add_argument("--inventory", type=Path, help="the site (default: the embedded lab)")
    parser.add_argument("directory", type=Path, help="empty, or an existing bundle, whose valid files are kept")
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Create or complete a bundle.

    :raises InputError: the inventory is invalid, or the directory contains something else
    :raises StackspecError: a file cannot be fetched, built or written
    """
    load_steps()
    site = which_cloud(arguments.inventory, default_inventory(), nodes=True).site
    assert site is not None
    check_release(site.inventory.release, STEPS)
    check_config(site, STEPS)

    def say(text: str) -> None:
        print(text, flush=True)

    # Steps are declared only for the files they name: no secret is read or stored.
    site = replace(site, secrets=Secrets())
    if site.inventory.lab is not None:
        site = replace(site, image_builders=Lab(load(site.file)).images(BUILT_IMAGES, say, begin=False))
    wheels = site.release.wheels
    constraints = hashlib.sha256(wheels.constraints_text().encode()).hexdigest() if wheels else ""
    listing = BundleList(site=site.name, release=site.release.name, constraints=constraints)
    folder = arguments.directory.absolute()
    try:
        done = write(folder, listing, parts_of(site), say)
    except OSError as error:
        raise ActionError(
            f"write the bundle {folder}", output=str(error), advice="run the same command again to continue"
        ) from None
    say(f"{folder}: {len(done.files)} files, {sum(each.size for each in done.files) / 1e6:.0f} MB")
    return 0


def parts_of(site: Site) -> list[Part]:
    """The downloads of a site's steps, without duplicates."""
    found: dict[str, Part] = {}
    for resource in (each for task in plan_of(site) for each in task.resources):
        found |= {part.name: part for part in resource.parts(site) if part.name not in found}
    return list(found.values())


def write(folder: Path, wanted: BundleList, parts: Iterable[Part], say: Callable[[str], None]) -> BundleList:
    """Make the missing and changed files of a bundle, and remove those it no longer needs.

    If killed, it leaves a bundle that the next call completes.

    :param wanted: what the bundle is for, without files
    :param say: called with a line for each new file
    :returns: what is in it
    :raises InputError: the folder holds other files, another site's bundle, or an unreadable list
    :raises ActionError: a file cannot be fetched or built
    :raises OSError: a file cannot be written
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a directory; choose another one")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / LIST).exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} contains other files and is not a bundle; choose a new or empty directory")
    with (folder / ".lock").open("w") as lock:
        # Another process may be writing it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob("*/.*.part"):
            leftover.unlink()
        todo = {part.name: part for part in parts}
        before = read_list(folder) or wanted
        if before.site != wanted.site:
            raise InputError(f"{folder} is a bundle of site {before.site}, not {wanted.site}; choose another directory")
        there = {each.name: each for each in before.files}
        _save(folder, wanted, there)
        for name, part in todo.items():
            if name not in there or not there[name].is_in(folder):
                say(f"{name}: {part.what}")
                there[name] = _put(folder, part)
                # After each file, so that the list is valid after a kill.
                _save(folder, wanted, there)
        # At the end: if a download fails, the old bundle stays intact.
        for name in there.keys() - todo:
            (folder / name).unlink(missing_ok=True)
            del there[name]
        _save(folder, wanted, there)
    return wanted.model_copy(update={"files": tuple(there.values())})


def _put(folder: Path, part: Part) -> Entry:
    made, path = part.make(), folder / part.name
    path.parent.mkdir(exist_ok=True)
    copy = path.with_name(f".{path.name}.part")
    shutil.copyfile(made, copy)
    entry = Entry(name=part.name, what=part.what, size=copy.stat().st_size, sha256=sha256_of(copy))
    copy.replace(path)
    return entry


def _save(folder: Path, wanted: BundleList, there: dict[str, Entry]) -> None:
    files = tuple(there[name] for name in sorted(there))
    text = wanted.model_copy(update={"files": files}).model_dump_json(indent=2) + "\n"
    path = folder / LIST
    if not path.exists() or path.read_text() != text:
        copy = folder / f".{LIST}.part"
        copy.write_text(text)
        copy.replace(path)

"""`stackspec bundle`: one directory with all that a deployment needs beside the distribution's archive."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ActionError, InputError
from .inventory import BUILT_IMAGES
from .lab import Lab, load
from .release_check import check_release
from .secrets import Secrets
from .site import Site, check_config, default_inventory
from .step import STEPS, load_steps
from .store import LIST, Entry, Listing, Part, read_list, sha256_of
from .task import plan_of
from .which_cloud import which_cloud

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command `bundle` to a command line."""
    text = "write what a deployment needs beside the distribution's archive; then: --deploy --bundle DIRECTORY"
    parser = subparsers.add_parser("bundle", help=text, description=text)
    parser.add_argument("--inventory", type=Path, help="the site (default: the embedded lab)")
    parser.add_argument("directory", type=Path, help="an empty one, or a bundle: what is right in it is kept")
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Make a bundle, or complete one.

    :raises InputError: the inventory cannot be used, or the directory holds something else
    :raises StackspecError: a file cannot be fetched, built or written
    """
    load_steps()
    site = which_cloud(arguments.inventory, default_inventory(), nodes=True).site
    assert site is not None
    check_release(site.inventory.release, STEPS)
    check_config(site, STEPS)

    def say(text: str) -> None:
        print(text, flush=True)

    # Steps are declared for the files that they name: no secret is read, or made and kept.
    site = replace(site, secrets=Secrets())
    if site.inventory.lab is not None:
        site = replace(site, image_builders=Lab(load(site.file)).images(BUILT_IMAGES, say, begin=False))
    wheels = site.release.wheels
    constraints = hashlib.sha256(wheels.constraints_text().encode()).hexdigest() if wheels else ""
    listing = Listing(site=site.name, release=site.release.name, constraints=constraints)
    folder = arguments.directory.absolute()
    try:
        done = write(folder, listing, parts_of(site), say)
    except OSError as error:
        raise ActionError(
            f"write the bundle {folder}", output=str(error), advice="the same command goes on where it was"
        ) from None
    say(f"{folder}: {len(done.files)} files, {sum(each.size for each in done.files) / 1e6:.0f} MB")
    return 0


def parts_of(site: Site) -> list[Part]:
    """What the steps of a site take from elsewhere, each once."""
    found: dict[str, Part] = {}
    for resource in (each for task in plan_of(site) for each in task.resources):
        found |= {part.name: part for part in resource.parts(site) if part.name not in found}
    return list(found.values())


def write(folder: Path, wanted: Listing, parts: Iterable[Part], say: Callable[[str], None]) -> Listing:
    """Make the files of a bundle that are not there, or not as listed, and remove those that it no longer has.

    Killed at any moment, it leaves a bundle that the next call completes.

    :param wanted: for what it is made, without files
    :param say: called with a line for each file that is made
    :returns: what is in it
    :raises InputError: the folder holds other files, another site's bundle, or a list that cannot be read
    :raises ActionError: a file cannot be fetched or built
    :raises OSError: a file cannot be written
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is no directory; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / LIST).exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} holds other files and is no bundle; name a new or an empty directory")
    with (folder / ".lock").open("w") as lock:
        # Another one may be at it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in folder.glob("*/.*.part"):
            leftover.unlink()
        todo = {part.name: part for part in parts}
        before = read_list(folder) or wanted
        if before.site != wanted.site:
            raise InputError(f"{folder} is a bundle of site {before.site}, not {wanted.site}; name another directory")
        there = {each.name: each for each in before.files}
        _save(folder, wanted, there)
        for name, part in todo.items():
            if name not in there or not there[name].is_in(folder):
                say(f"{name}: {part.what}")
                there[name] = _put(folder, part)
                # After each, so that one that is killed knows what it has.
                _save(folder, wanted, there)
        # At the end: where something cannot be fetched, the old bundle is as it was.
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


def _save(folder: Path, wanted: Listing, there: dict[str, Entry]) -> None:
    files = tuple(there[name] for name in sorted(there))
    text = wanted.model_copy(update={"files": files}).model_dump_json(indent=2) + "\n"
    path = folder / LIST
    if not path.exists() or path.read_text() != text:
        copy = folder / f".{LIST}.part"
        copy.write_text(text)
        copy.replace(path)

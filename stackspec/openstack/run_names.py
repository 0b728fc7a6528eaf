"""Names that say to which run an object belongs.

A run id has a shape of its own, so that a sweep never takes what somebody else called `ss-something`.
"""

from __future__ import annotations

import datetime
import re

_NAME = re.compile(r"^(ss-\d{8}-\d{6}-[0-9a-f]{4})(?:-.*)?$")
EVERY_RUN = "ss-"


def run_of(label: str | None) -> str | None:
    """The id of the run that `label` (a name or a description) belongs to; None when it belongs to none.

    Placement takes only upper case, digits and `_`, after `CUSTOM_`: such names are read, too.
    """
    if not label:
        return None
    if label.startswith("CUSTOM_"):
        label = label.removeprefix("CUSTOM_").lower().replace("_", "-")
    found = _NAME.match(label)
    return found.group(1) if found else None


def belongs(label: str | None, run_id: str = EVERY_RUN) -> bool:
    """Whether `label` is of the run `run_id`, or of a run whose id begins so."""
    run = run_of(label)
    return run is not None and run.startswith(run_id)


def age(run_id: str) -> datetime.timedelta:
    """How long ago the run began: its id says when, in UTC."""
    began = datetime.datetime.strptime(run_id[3:18], "%Y%m%d-%H%M%S").replace(tzinfo=datetime.timezone.utc)
    return datetime.datetime.now(datetime.timezone.utc) - began


def custom_name(name: str) -> str:
    """`name` as a resource class or trait can be called."""
    return "CUSTOM_" + re.sub(r"[^A-Z0-9]", "_", name.upper())

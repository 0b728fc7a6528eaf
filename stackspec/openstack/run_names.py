"""Names that identify the run of an object.

Run ids have a distinctive format, so that a cleanup never removes somebody else's `ss-something`.
"""

from __future__ import annotations

import datetime
import re

_NAME = re.compile(r"^(ss-\d{8}-\d{6}-[0-9a-f]{4})(?:-.*)?$")
EVERY_RUN = "ss-"


def run_of(label: str | None) -> str | None:
    """The run id in `label` (a name or a description); None if there is none.

    Placement allows only upper case, digits and `_`, after `CUSTOM_`: such names are recognised as well.
    """
    if not label:
        return None
    if label.startswith("CUSTOM_"):
        label = label.removeprefix("CUSTOM_").lower().replace("_", "-")
    found = _NAME.match(label)
    return found.group(1) if found else None


def belongs(label: str | None, run_id: str = EVERY_RUN) -> bool:
    """Whether `label` belongs to the run `run_id`, or to a run whose id starts with it."""
    run = run_of(label)
    return run is not None and run.startswith(run_id)


def age(run_id: str) -> datetime.timedelta:
    """The age of the run, from the UTC time in its id."""
    began = datetime.datetime.strptime(run_id[3:18], "%Y%m%d-%H%M%S").replace(tzinfo=datetime.timezone.utc)
    return datetime.datetime.now(datetime.timezone.utc) - began


def custom_name(name: str) -> str:
    """`name` converted to a valid name of a resource class or trait."""
    return "CUSTOM_" + re.sub(r"[^A-Z0-9]", "_", name.upper())

"""Every option in the plan for Caracal exists in Caracal's own code, which accepts the value.

The code is on PyPI. It is downloaded on request (about two minutes, 900 MB):
`STACKSPEC_CARACAL=/some/folder ./run tests/unit/test_options.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from stackspec.errors import CannotTell
from stackspec.fixtures import programs
from stackspec.resources.base import resolve
from stackspec.resources.ini import IniFile

from .bare import context
from .guide_plan import ROOT, declared, guide_site

CODE = {
    "nova": "nova==29.4.0",
    "keystone": "keystone==25.0.0",
    "glance": "glance==28.2.0",
    "placement": "openstack-placement==11.0.1",
    "neutron": "neutron==24.2.2",
    "cinder": "cinder==24.5.0",
    "heat": "openstack-heat==22.0.1",
    "octavia": "octavia==14.0.2",
    "magnum": "magnum==18.0.1",
    "barbican": "barbican==18.0.0",
}
"""Service -> name of its 2024.1 code on PyPI."""
MEANT = {
    "octavia": {
        # The guide sets it, and it has no effect.
        "[service_auth] memcached_servers: no option of octavia",
        # This plan uses a placeholder instead of a secret. A site's generated key is valid.
        "[certificates] server_certs_key_passphrase: octavia refuses the value",
    },
}
"""Service -> what its code reports about the plan, and why that is accepted."""


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment with Caracal's code, created if it does not exist."""
    folder = os.environ.get("STACKSPEC_CARACAL")
    if not folder:
        pytest.skip("set STACKSPEC_CARACAL to a folder for Caracal's code from PyPI (900 MB)")
    found, finished = Path(folder) / "bin" / "python", Path(folder) / "finished"
    if not finished.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(found), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "setuptools<75"], check=True)
        constraints = ROOT / "releases" / "caracal-upper-constraints.txt"
        subprocess.run([*pip, "-c", str(constraints), *CODE.values(), "PyMySQL", "python-memcached"], check=True)
        finished.touch()
    return found


def planned(service: str) -> list[tuple[str, str, str]]:
    """Section, option and value of everything that the plan writes to the files of a service."""
    found: dict[tuple[str, str], str] = {}
    site = guide_site()
    for node in site.nodes.values():
        for resource in (each for resources in declared(site, node).values() for each in resources):
            if not isinstance(resource, IniFile) or not resource.path.startswith(f"/etc/{service}/"):
                continue
            if "uwsgi" in resource.path:
                continue
            for section, options in resource.options.items():
                for name, value in options.items():
                    try:
                        text = resolve(value, context(site, node))
                    except CannotTell:
                        continue
                    if text is not None:
                        found[section, name] = str(text)
    return [(section, name, value) for (section, name), value in found.items()]


@pytest.mark.parametrize("service", CODE)
def test_plan_matches_the_code_of_caracal(service: str, python: Path) -> None:
    options = planned(service)
    assert options
    message = json.dumps({"service": service, "options": options})
    done = subprocess.run(
        [str(python), "-c", programs.text("option_check")], input=message, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) == MEANT.get(service, set())

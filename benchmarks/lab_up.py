#!/usr/bin/env python3
"""Time `stackspec lab up` and `down` with a cached root file system, in a separate lab next to any other."""

from __future__ import annotations

import time

from common import arguments, machine, main, spread

from stackspec.lab import Lab, LabError, load, rootfs


def run() -> int:
    """Measure, and print the medians."""
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--name", default="bench", help="name of the lab (default: %(default)s)")
    chosen = parser.parse_args()
    lab = Lab(load(chosen.inventory, chosen.name))
    if chosen.name == load(chosen.inventory).name:
        raise LabError(f"--name {chosen.name} is the inventory's own lab, which this would remove; choose another")
    if lab.folder.root.exists() or lab.namespace.exists():
        raise LabError(
            f"there is a lab {chosen.name} already; stackspec lab down --all --name {chosen.name}, or another --name"
        )
    ups: list[float] = []
    downs: list[float] = []
    try:
        if not rootfs.path_of(lab.cache, rootfs.key(lab.spec.suite)).is_dir():
            print("building the root file system first, which is not counted")
            lab.up(lambda line: None)
            lab.down()
        for number in range(chosen.rounds):
            began = time.perf_counter()
            lab.up(lambda line: None)
            ups.append(time.perf_counter() - began)
            began = time.perf_counter()
            lab.down()
            downs.append(time.perf_counter() - began)
            print(f"round {number + 1}: up {ups[-1]:.2f} s, down {downs[-1]:.2f} s", flush=True)
    finally:
        lab.down()
    print(f"lab up:   {spread(ups)}; {machine()}")
    print(f"lab down: {spread(downs)}")
    return 0


if __name__ == "__main__":
    main(run)

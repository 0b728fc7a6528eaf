#!/usr/bin/env python3
"""Print the memory of the lab's nodes: proportional set size of their processes, so shared pages count once."""

from __future__ import annotations

from common import arguments, machine, main

from stackspec.lab import Lab, LabError, load


def run() -> int:
    """Read the nodes' memory, and print it with the sum."""
    parser = arguments(__doc__)
    parser.add_argument("--name", help="name of the lab (default: the inventory's)")
    chosen = parser.parse_args()
    rows = Lab(load(chosen.inventory, chosen.name)).status()
    if stopped := [row.name for row in rows if row.state != "running"]:
        raise LabError(f"not running: {', '.join(stopped)}; start and deploy the lab with: ./run --deploy tests/")
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:{width}}  {row.memory:6} MiB")
    total = sum(row.memory for row in rows)
    print(f"{'sum':{width}}  {total:6} MiB = {total / 1024:.1f} GiB; {machine()}")
    return 0


if __name__ == "__main__":
    main(run)

"""`python -m lab`: the commands of `stackspec lab`, from a checkout."""

import argparse
import sys

from lab.cli import add_commands


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description="The embedded lab")
    add_commands(parser)
    arguments = parser.parse_args()
    return int(arguments.func(arguments))


if __name__ == "__main__":
    sys.exit(main())

"""The command `stackspec`: inventories, tests, lab, bundles, reports, cleanup and faults."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import suite
from ..errors import InputError, StackspecError
from ..lab import cli as lab
from ..report import compare, page
from . import bundle, cleanup, faults, init


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 failed, 4 bad input."""
    parser = argparse.ArgumentParser(prog="stackspec", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    init.add_parser(commands)
    suite.add_parser(commands)
    lab.add_parser(commands)
    page.add_parser(commands)
    compare.add_parser(commands)
    bundle.add_parser(commands)
    cleanup.add_parser(commands)
    faults.add_parser(commands)
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if words[:1] == ["test"] and words[1:] not in (["-h"], ["--help"]):
            return suite.run(words[1:])
        chosen = parser.parse_args(words)
        status = int(chosen.func(chosen) or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe. Python flushes at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except StackspecError as error:
        print(f"stackspec: {error}", file=sys.stderr)
        return 4 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("stackspec: interrupted; run the same command again to continue", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""Shortens root commands of OpenStack services; Python imports it at each start on a node with its own kernel.

A volume's creation takes some ten commands, and each imported eventlet, only to see that nothing of it is in use.
debtcollector, which looks up its own version among all packages, is for the warning in that case. Without both, a
command takes 0.2 s there instead of 0.5 s.
"""

import sys
import types

if sys.orig_argv[1:2] and sys.orig_argv[1].endswith("-rootwrap"):
    # Python's documented way to make an import fail; its type says that there are only modules.
    sys.modules["eventlet"] = None  # type: ignore[assignment]
    sys.modules["debtcollector"] = types.ModuleType("debtcollector")

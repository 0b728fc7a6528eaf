"""Runs on a node, sent there over the connection: reads facts and executes operations, many per message.

Standard library only, Python 3.9 or newer: nothing is installed on the node. The controlling machine sends
(id, "facts", queries) or (id, "apply", actions); each is answered on its own thread.
"""

from pathlib import Path

MODULES = ("shell", "files", "disks", "systemd", "waits", "boot", "packaging", "holding", "in_use", "loop")
"""Its modules; each imports only earlier ones."""
LOADER = """
import sys, types

package = sys.modules["node_agent"] = types.ModuleType("node_agent")
package.__path__ = []
for name, source in channel.receive():
    module = sys.modules["node_agent." + name] = types.ModuleType("node_agent." + name)
    module.__package__ = "node_agent"
    exec(compile(source, "node_agent/" + name + ".py", "exec"), vars(module))
    setattr(package, name, module)
package.loop.serve(channel)
"""
"""What the node's Python runs first: it receives `sources()`, and serves."""


def sources() -> list[tuple[str, str]]:
    """Name and source of each module, in the order of MODULES."""
    return [(name, Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")) for name in MODULES]

"""The lab keeps to itself: what its nodes send elsewhere is refused and counted."""

from __future__ import annotations


def test_nothing_leaves_the_lab(base, site, node_host, lab):
    """A connection to an address of documentation (RFC 5737) is refused on every node at once, and counted."""
    script = (
        "import socket, time\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    socket.create_connection(('198.51.100.1', 80), 10)\n"
        "    print('connected')\n"
        "except OSError:\n"
        "    print('refused' if time.monotonic() - started < 5 else 'timed out')\n"
    )
    for name in site.nodes:
        before = lab.drops()
        assert node_host(name).check_output("python3 -c %s", script) == "refused"
        assert lab.drops() > before, f"{name}: the packet was not counted"


def test_packages_come_through_the_proxy(base, site, node_host, lab):
    """apt on a node asks the lab's proxy, the only way to packages."""
    for name in site.nodes:
        proxy = node_host(name).check_output("apt-config dump Acquire::http::Proxy")
        assert "http://10.0.0.1:3142" in proxy, f"{name}: {proxy}"

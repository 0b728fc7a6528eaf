"""The cache keeps what it is given."""

from __future__ import annotations


def test_cache_keeps_a_value(memcached, site, controller):
    """What is put into memcached comes out again."""
    script = (
        f"import socket; s = socket.create_connection(('{site.controller.address}', 11211), 5); "
        "s.sendall(b'set stackspec 0 30 5\\r\\nhello\\r\\nget stackspec\\r\\ndelete stackspec\\r\\nquit\\r\\n'); "
        "print(b''.join(iter(lambda: s.recv(4096), b'')).decode())"
    )
    assert "hello" in controller.check_output("python3 -c %s", script)

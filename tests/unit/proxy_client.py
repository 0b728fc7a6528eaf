"""A client of the lab's package proxy."""

from __future__ import annotations

import http.client
from collections.abc import Mapping


def get(port: int, url: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, bytes, str]:
    """Status, body and reason of an answer from the proxy at this port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, url, headers=dict(headers or {}))
    answer = connection.getresponse()
    try:
        return answer.status, answer.read(), answer.reason
    finally:
        connection.close()

"""The key-value store keeps what it is given."""

from __future__ import annotations

import json


def test_etcd_keeps_a_value(etcd, site, controller):
    """A key is written, read and deleted through the v3 API."""
    script = (
        "import base64, json, urllib.request as r\n"
        "def call(verb, **body):\n"
        "    data = json.dumps({k: base64.b64encode(v.encode()).decode() for k, v in body.items()}).encode()\n"
        f"    request = r.Request('http://{site.controller.address}:2379/v3/kv/' + verb, data)\n"
        "    return json.load(r.urlopen(request, timeout=10))\n"
        "call('put', key='stackspec', value='hello')\n"
        "print(json.dumps([call('range', key='stackspec'), call('deleterange', key='stackspec')]))\n"
    )
    found, deleted = json.loads(controller.check_output("python3 -c %s", script))
    assert found["count"] == "1"
    assert deleted["deleted"] == "1"

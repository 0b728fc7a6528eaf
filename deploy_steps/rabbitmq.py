"""Message queue. Guide: 安装消息队列."""

from __future__ import annotations

from stackspec.openstack.rabbitmq import NoRabbitUser, RabbitUser
from stackspec.resources import File, Lines, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step

EPMD = "/etc/systemd/system/epmd.socket.d/stackspec.conf"
EPMD_TEXT = """\
# The server registers on loopback; its tools use the address of the node's name, on the management network. At boot
# that address may be configured after the socket.
[Socket]
ListenStream=
ListenStream=127.0.0.1:4369
ListenStream={address}:4369
FreeBind=true
# An Erlang tool that ran before this socket existed has started its own port mapper, which occupies the port.
ExecStartPre=-/usr/bin/epmd -kill
"""


@step(role="controller")
def rabbitmq(site: Site, base: Step) -> Resources:
    """RabbitMQ on the management address, with openstack as its only user, with all permissions in /."""
    yield Packages("rabbitmq-server")
    address = site.controller.address
    yield File(EPMD, EPMD_TEXT.format(address=address))
    # Erlang's port mapper is socket-activated; if the server starts it instead, the socket unit fails permanently.
    yield Service("epmd.socket", reads=(EPMD,))
    # The second is for cluster nodes and tools: the cookie grants full access there.
    listeners = (f"listeners.tcp.1 = {address}:5672", f"distribution.listener.interface = {address}")
    yield Lines(
        "/etc/rabbitmq/rabbitmq.conf", listeners, replaces=r"^(listeners\.tcp|distribution\.listener\.interface)\b"
    )
    yield Service("rabbitmq-server")
    yield RabbitUser("openstack")
    yield NoRabbitUser("guest")

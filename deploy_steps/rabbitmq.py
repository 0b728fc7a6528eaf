"""Message queue. Guide: 安装消息队列."""

from __future__ import annotations

from stackspec.openstack.rabbitmq import RabbitUser
from stackspec.resources import Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller")
def rabbitmq(site: Site, base: Step) -> Resources:
    """RabbitMQ with the user openstack, who may configure, write and read everything in /."""
    yield Packages("rabbitmq-server")
    # Erlang's port mapper is started by its socket; started by the server instead, the socket fails for ever.
    yield Service("epmd.socket", "rabbitmq-server")
    yield RabbitUser("openstack")

"""What others can do where the guide's passwords, addresses and protocols are used, and cannot do on this site."""

from __future__ import annotations

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.site import Site


def without_the_guides_secrets(site: Site) -> None:
    """Skips the test on a site whose inventory asks for the guide's password."""
    if site.inventory.secrets == "guide":
        pytest.skip("the inventory asks for the guide's password")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        pytest.param(
            ". /etc/keystone/admin-openrc.sh && OS_PASSWORD=000000 openstack token issue",
            "HTTP 401",
            marks=pytest.mark.steps("keystone"),
            id="administrator",
        ),
        pytest.param(
            "mariadb -u keystone -p000000 -h <controller> keystone -e 'SELECT 1'",
            "Access denied",
            marks=pytest.mark.steps("keystone"),
            id="database",
        ),
        pytest.param(
            "rabbitmqctl authenticate_user openstack 000000 </dev/null",
            "failed to authenticate",
            marks=pytest.mark.steps("rabbitmq"),
            id="queue",
        ),
    ],
)
def test_password_of_the_guide_opens_nothing(
    command: str, answer: str, deployed: None, site: Site, controller: NodeHost
) -> None:
    """E09: whoever tries 000000 is refused."""
    without_the_guides_secrets(site)
    done = controller.run(command.replace("<controller>", site.controller.name))
    assert done.rc != 0, "the guide's password is accepted"
    assert answer in done.stderr + done.stdout, done.stderr


@pytest.mark.steps("keystone")
def test_password_is_in_the_process_list(deployed: None, controller: NodeHost) -> None:
    """E11: other users of the node can read a password on a command line. With --help nothing is done."""
    script = (
        "keystone-manage bootstrap --bootstrap-password 000000 --help >/dev/null &"
        # The shell's own line, which is there first, has this word.
        " until setpriv --reuid keystone --regid keystone --init-groups cat /proc/$!/cmdline"
        " | tr '\\0' ' ' | grep -v until; do sleep 0.05; done; wait"
    )
    assert "--bootstrap-password 000000" in controller.check_output("timeout 60 sh -c %s", script)


@pytest.mark.steps("keystone")
def test_password_crosses_the_network_in_clear(deployed: None, site: Site, node_host: HostOf) -> None:
    """E12: whoever sees the packets of a login by http reads the password, here that of nobody."""
    node = site.with_role("compute")[0]
    url = f"http://{site.controller.name}:5000/v3/auth/tokens"
    assert programs.output(node_host(node.name), "password_in_clear", url, "in-clear-for-all") == "seen"


@pytest.mark.steps("memcached", "nova_compute")
def test_cache_needs_no_login(deployed: None, site: Site, node_host: HostOf) -> None:
    """E20: another node of the management network writes and reads the controller's cache."""
    for node in site.with_role("compute"):
        assert "hello" in programs.output(node_host(node.name), "cache_value", site.controller.address)


@pytest.mark.steps("nova", "neutron")
def test_metadata_of_others_needs_the_secret(deployed: None, site: Site, controller: NodeHost) -> None:
    """E46: a request for any server's metadata that is signed with the guide's secret is refused."""
    without_the_guides_secrets(site)
    url = f"http://{site.controller.address}:8775/latest/meta-data/"
    answer = programs.output(controller, "metadata_of_another", url, "000000")
    assert answer.startswith("403 "), answer
    assert "Invalid proxy request signature" in answer


@pytest.mark.steps("octavia")
def test_pass_phrase_of_the_guide_opens_no_key(deployed: None, controller: NodeHost) -> None:
    """E113, E128: the authority's key is encrypted, and not with the pass phrase of upstream's script."""
    key = "/etc/octavia/certs/private/server_ca.key.pem"
    assert "ENCRYPTED" in controller.check_output("head --lines 1 %s", key)
    opened = controller.run("openssl pkey -in %s -passin pass:not-secure-passphrase -noout", key)
    assert opened.rc != 0, "the authority's key has the published pass phrase"

"""The other dashboard. Guide: 安装openstack服务 / Skyline."""

from __future__ import annotations

from typing import Any

from stackspec.openstack import Database, DbSync, ServiceUser
from stackspec.release import ReleaseValue
from stackspec.resources import Answers, Command, Directory, File, Generated, Packages, Service, Venv, YamlFile
from stackspec.site import Site
from stackspec.step import Resources, Step, step

__all__ = ["skyline", "skyline_apiserver"]

REQUIREMENTS = ReleaseValue("skyline")
"""Requirements of its environment, name==version; the API server first."""
PATH = "/opt/skyline"
NGINX = "/etc/nginx/nginx.conf"
DEFAULT_SITE = "/etc/nginx/sites-enabled/default"
GUNICORN = """\
import multiprocessing

# Only reachable through nginx (erratum E94).
bind = ['127.0.0.1:28000']
workers = (1 + multiprocessing.cpu_count()) // 2
worker_class = "uvicorn.workers.UvicornWorker"
timeout = 300
keepalive = 5
proc_name = "skyline"
"""
ALEMBIC = """\
[alembic]
script_location = skyline_apiserver.db:alembic
"""
UNIT = f"""\
[Unit]
Description=Skyline APIServer
After=network-online.target mariadb.service
Wants=network-online.target

[Service]
Type=simple
User=skyline
ExecStart={PATH}/bin/gunicorn -c /etc/skyline/gunicorn.py skyline_apiserver.main:app
LimitNOFILE=32768
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""


@step(role="controller")
def skyline_apiserver(site: Site, keystone: Step, mariadb: Step) -> Resources:
    """The API server, in its own environment. The guide has it below the console's heading (erratum E90)."""
    requirements = tuple(site.release.value(REQUIREMENTS).split())
    yield Database("skyline")
    yield ServiceUser("skyline")
    # The guide lacks the distribution's MySQLdb; nothing is compiled (errata E101, E103).
    yield Packages("python3-venv", "python3-mysqldb")
    # Its own user instead of root (erratum E102).
    home = ("--home-dir", "/var/lib/skyline", "--shell", "/usr/sbin/nologin")
    yield Command(("useradd", "--system", "--user-group", *home, "skyline"), unless=("getent", "passwd", "skyline"))
    yield Directory("/etc/skyline")
    yield Directory("/var/log/skyline", owner="skyline", group="skyline")
    yield YamlFile("/etc/skyline/skyline.yaml", _settings(site), owner="root", group="skyline")
    yield File("/etc/skyline/gunicorn.py", GUNICORN)
    yield File("/etc/skyline/alembic.ini", ALEMBIC)
    yield File("/etc/systemd/system/skyline-apiserver.service", UNIT)
    # Separate from the system's Python, whose libraries other services need unchanged (errata E92, E93).
    yield Venv(PATH, requirements, system=True)
    sync = (f"{PATH}/bin/alembic", "-c", "/etc/skyline/alembic.ini", "upgrade", "head")
    yield DbSync(sync, database="skyline", package="", user="skyline", version=requirements[0])
    yield Service("skyline-apiserver")
    yield Answers("http://127.0.0.1:28000/api/v1/contrib/regions", service="skyline-apiserver")


@step(role="controller")
def skyline(
    site: Site,
    skyline_apiserver: Step,
    glance: Step,
    nova: Step,
    neutron: Step,
    swift: Step,
    heat: Step,
    barbican: Step,
    cinder: Step,
    octavia: Step,
    magnum: Step,
) -> Resources:
    """The console on port 9999: nginx as its proxy, and as the proxy of all APIs in the catalog."""
    yield Packages("nginx")
    # It would occupy horizon's port.
    yield Command(("rm", DEFAULT_SITE), unless=("test", "!", "-e", DEFAULT_SITE))
    # Includes cinder's location, which the guide adds manually in an invalid place (errata E104, E105).
    yield Generated(
        NGINX,
        (f"{PATH}/bin/skyline-nginx-generator",),
        edits=("s/server .* fail_timeout=0;/server 127.0.0.1:28000 fail_timeout=0;/g",),
        check=("nginx", "-t", "-q", "-c"),
    )
    yield Service("nginx", reads=(NGINX,))
    # It caches the catalog of its first token, which lacks the services of later steps.
    yield Service("skyline-apiserver", reads=(NGINX,))
    yield Answers("http://127.0.0.1:28000/api/v1/contrib/regions", service="skyline-apiserver")
    yield Answers(f"http://{site.controller.address}:9999/", service="nginx")


def _settings(site: Site) -> dict[str, Any]:
    """The guide's complete skyline.yaml without prometheus_endpoint, where nothing listens (erratum E97)."""
    address = site.controller.address
    families = {
        "x86_architecture": ("general_purpose", "compute_optimized", "memory_optimized", "high_clock_speed"),
        "heterogeneous_computing": ("compute_optimized_type_with_gpu", "visualization_compute_optimized_type_with_gpu"),
    }
    return {
        "default": {
            "access_log_file": "skyline-nginx-access.log",
            "access_token_expire": 3600,
            "access_token_renew": 1800,
            "cafile": "",
            "cors_allow_origins": [],
            "database_url": f"mysql://skyline:{site.password('skyline database')}@{address}:3306/skyline",
            "debug": False,  # erratum E95: it would write tokens to the log
            "error_log_file": "skyline-nginx-error.log",
            "log_dir": "/var/log/skyline",
            "log_file": "skyline.log",
            "policy_file_path": "/etc/skyline/policy",
            "policy_file_suffix": "policy.yaml",
            "prometheus_basic_auth_password": "",
            "prometheus_basic_auth_user": "",
            "prometheus_enable_basic_auth": False,
            # It signs sessions: knowing it makes one an administrator (erratum E98).
            "secret_key": site.secrets.key("skyline sessions"),
            "session_name": "session",
            "ssl_enabled": True,
        },
        "openstack": {
            "base_domains": ["heat"],  # erratum E99
            "default_region": site.region,
            "enforce_new_defaults": True,
            "extension_mapping": {
                "floating-ip-port-forwarding": "neutron_port_forwarding",
                "fwaas_v2": "neutron_firewall",
                "qos": "neutron_qos",
                "vpnaas": "neutron_vpn",
            },
            "interface_type": "public",
            "keystone_url": f"http://{address}:5000/v3/",
            "nginx_prefix": "/api/openstack",
            "reclaim_instance_interval": 604800,
            "service_mapping": {
                "baremetal": "ironic",
                "compute": "nova",
                "container": "zun",
                "container-infra": "magnum",
                "database": "trove",
                "dns": "designate",
                "identity": "keystone",
                "image": "glance",
                "instance-ha": "masakari",
                "key-manager": "barbican",
                "load-balancer": "octavia",
                "network": "neutron",
                "object-store": "swift",
                "orchestration": "heat",
                "placement": "placement",
                "sharev2": "manilav2",
                "volumev3": "cinder",  # by its type in the catalog, which is not block-storage (erratum E100)
            },
            "sso_enabled": False,
            "sso_protocols": ["openid"],
            "sso_region": site.region,
            "system_admin_roles": ["admin", "system_admin"],
            "system_project": "service",
            "system_project_domain": "Default",
            "system_reader_roles": ["system_reader"],
            "system_user_domain": "Default",
            "system_user_name": "skyline",
            "system_user_password": site.password("skyline"),  # errata E89, E96
            "user_default_domain": "Default",
        },
        "setting": {
            "base_settings": ["flavor_families", "gpu_models", "usb_models"],
            "flavor_families": [
                {"architecture": name, "categories": [{"name": each, "properties": []} for each in categories]}
                for name, categories in families.items()
            ],
            "gpu_models": ["nvidia_t4"],
            "usb_models": ["usb_c"],
        },
    }

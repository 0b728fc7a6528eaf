"""SQL database. Guide: 安装SQL数据库."""

from __future__ import annotations

from stackspec.openstack.database import CLIENT
from stackspec.resources import Command, IniFile, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller")
def mariadb(site: Site, base: Step) -> Resources:
    """MariaDB on the management address; the settings stay in one file of our own (erratum E18)."""
    yield Packages("mariadb-server", "python3-pymysql")
    yield IniFile(
        "/etc/mysql/mariadb.conf.d/99-openstack.cnf",
        {
            "mysqld": {
                "bind-address": site.controller.address,
                "default-storage-engine": "innodb",
                "innodb_file_per_table": "on",
                "max_connections": 4096,
                "collation-server": "utf8_general_ci",
                "character-set-server": "utf8",
            }
        },
        mode=0o644,
    )
    yield Service("mariadb")
    # mysql_secure_installation without prompts (erratum E06); root keeps the unix socket.
    doubtful = (
        "SELECT 1 FROM mysql.global_priv WHERE User='' OR (User='root' AND Host NOT IN ('localhost','127.0.0.1','::1'))"
    )
    remove = (
        "DELETE FROM mysql.global_priv WHERE User='' OR (User='root' AND Host NOT IN ('localhost','127.0.0.1','::1'));"
        "DROP DATABASE IF EXISTS test; FLUSH PRIVILEGES;"
    )
    yield Command(
        CLIENT,
        stdin=remove,
        unless=("sh", "-c", f'found="$({" ".join(CLIENT)})" && test -z "$found"'),
        unless_stdin=f"{doubtful} UNION SELECT 1 FROM information_schema.schemata WHERE schema_name='test'",
    )

#!/bin/sh
# Called by mmdebstrap with the directory of a new root file system: makes of it what all nodes share.
set -eu
root=$1

chroot "$root" systemctl enable systemd-networkd ssh
# apt-daily takes apt's lock at a time of its own; there is no terminal for the gettys.
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer console-getty.service getty@tty1.service

rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/hostname "$root"/etc/hosts "$root"/etc/resolv.conf
: > "$root/etc/machine-id"
mkdir -p "$root/root/.ssh" "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/networkd.conf.d"
chmod 700 "$root/root/.ssh"

cat > "$root/etc/systemd/journald.conf.d/lab.conf" <<EOF
[Journal]
Storage=volatile
RuntimeMaxUse=128M
EOF

# Tests open and drop many connections from the one address of the lab; sshd would lock it out for minutes.
cat > "$root/etc/ssh/sshd_config.d/lab.conf" <<EOF
PerSourcePenalties no
MaxStartups 100:30:200
MaxSessions 100
UseDNS no
EOF

# What a deployment adds to routes and rules is not networkd's to remove.
cat > "$root/etc/systemd/networkd.conf.d/lab.conf" <<EOF
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
EOF

# No name server exists in the lab; an empty list would mean one on this node, which refuses at once.
echo "# The lab has no name server." > "$root/etc/resolv.conf"

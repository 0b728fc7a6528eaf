#!/bin/sh
# Called by mmdebstrap with the directory of a new root file system; turns it into the one that all nodes share.
set -eu
root=$1

chroot "$root" systemctl enable systemd-networkd ssh
# apt-daily takes apt's lock at arbitrary times; there are no terminals for the gettys.
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

# Tests open and drop many connections from the lab's single address; an sshd with PerSourcePenalties would lock it out
# for minutes.
cat > "$root/etc/ssh/sshd_config.d/lab.conf" <<EOF
MaxStartups 100:30:200
MaxSessions 100
UseDNS no
EOF
if grep -q PerSourcePenalties "$root/usr/sbin/sshd"; then
    echo "PerSourcePenalties no" >> "$root/etc/ssh/sshd_config.d/lab.conf"
fi

# networkd must not remove routes and rules that a deployment adds.
cat > "$root/etc/systemd/networkd.conf.d/lab.conf" <<EOF
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
EOF

# The lab has no name server; with an empty list the resolver uses one on this node, where the query fails at once.
echo "# The lab has no name server." > "$root/etc/resolv.conf"

# No guest boots from the network. Without the program for it a guest on an emulated processor needs a tenth less time
# until its kernel's first line.
rom=/usr/share/qemu/efi-virtio.rom
chroot "$root" dpkg-divert --quiet --local --rename --divert $rom.distrib --add $rom
mkdir -p "$root/usr/share/qemu"
head -c 512 /dev/zero > "$root$rom"

# Each package with Python modules starts Python twice and dpkg once to compile them, some 250 times per node, which is
# most of the installation time where starting processes is slow. Here packages are recorded and compiled after dpkg.
chroot "$root" dpkg-divert --quiet --local --rename --divert /usr/bin/py3compile.distrib --add /usr/bin/py3compile
cat > "$root/usr/bin/py3compile" <<'EOF_COMPILE'
#!/bin/sh
# Lab: records the package; any other call runs immediately.
[ "$#" = 2 ] && [ "$1" = -p ] || exec /usr/bin/py3compile.distrib "$@"
echo "$2" >> /var/lib/dpkg/py3compile.noted
EOF_COMPILE
cp "$(dirname "$0")/py3compile_noted.py" "$root/usr/local/sbin/py3compile-noted"
chmod 755 "$root/usr/bin/py3compile" "$root/usr/local/sbin/py3compile-noted"
echo 'DPkg::Post-Invoke { "/usr/local/sbin/py3compile-noted"; };' > "$root/etc/apt/apt.conf.d/91lab-py3compile"

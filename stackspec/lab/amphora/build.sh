#!/bin/sh
# Runs inside the tools tree: a Debian with octavia-agent at /out/root + /recipe/files + Debian's kernel -> /out/image.qcow2
set -eu
. /common/boot.sh

root=/out/root
units=$root/etc/systemd/system

# Kernel modules that an amphora may need.
kernel=/usr/lib/modules/$release
target=$root/usr/lib/modules/$release
mkdir -p "$target" $root/boot
cp "/boot/vmlinuz-$release" $root/boot/vmlinuz
cp "$kernel"/modules.builtin* "$kernel/modules.order" "$target/"
(cd "$kernel/kernel" && find net lib crypto fs/isofs fs/nls fs/fat drivers/block drivers/ata drivers/cdrom drivers/virtio \
  drivers/char/hw_random drivers/md drivers/scsi/s[dr]_mod* drivers/scsi/scsi_* drivers/scsi/virtio_scsi* drivers/acpi/button* \
  drivers/input/evdev* drivers/net/virtio_net* drivers/net/net_failover* drivers/net/dummy* drivers/net/veth* \
  -name '*.ko.xz') | while read -r file; do
  mkdir -p "$target/kernel/${file%/*}"
  unpack_module "$kernel/kernel/$file" "$target/kernel/${file%.xz}"
done
depmod -b $root "$release"

# The initramfs mounts the disk and switches to it.
early=/out/initrd
mkdir -p $early/bin $early/lib/modules $early/dev $early/proc $early/sys $early/root
cp /usr/bin/busybox $early/bin/
cp /recipe/init $early/init
chmod 755 $early/init
depmod "$release"
insert $early virtio_blk virtio_net >/out/order
mv /out/order $early/lib/modules/order
mknod -m 600 $early/dev/console c 5 1
make_initrd $early $root/boot/initrd

# Never imported by the agent; two thirds of the size.
packages=usr/lib/python3/dist-packages
(
  cd $root
  rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/i18n usr/share/icons usr/share/perl
  rm -rf usr/share/ieee-data usr/share/bash-completion usr/lib/udev/hwdb.* var/lib/apt/lists/* var/cache/apt/*
  rm -rf var/cache/debconf/*-old var/log/*.log
  for name in networkx babel/locale-data openstackclient openstack typeshed gevent graphviz novaclient neutronclient \
    cinderclient octavia/tests setuptools; do
    rm -rf "$packages/$name"
  done
  rm -rf $packages/mypy*
  for name in SvtAv1Enc aom rav1e dav1d heif; do rm -rf usr/lib/x86_64-linux-gnu/lib$name*; done
  find usr/lib/python3 -type d -name tests -prune -exec rm -rf {} +
)
chroot $root python3 -m compileall -q "/$packages"

cp -R /recipe/files/. $root/
chmod 755 $root/usr/sbin/amphora-* $root/etc/acpi/PWRF/*
: >$root/etc/machine-id
mkdir -p $root/etc/octavia/certs $root/etc/octavia/interfaces $root/var/lib/octavia/certs
rm -f $root/etc/octavia/octavia.conf
# haproxy's unit needs more open files than the package's setting allows.
sed -i -e '/tcp_tw_recycle/d' -e 's/^fs.nr_open=.*/fs.nr_open=2600000/' -e 's/^fs.file-max=.*/fs.file-max=2600000/' \
  $root/etc/sysctl.d/octavia-agent-sysctl.conf

# A virtual machine with a single task does not need these units.
while read -r unit; do
  case $unit in '' | '#'*) continue ;; esac
  ln -sfn /dev/null "$units/$unit"
  find $units -path "*.wants/$unit" -delete
done </recipe/masked
mkdir -p $units/multi-user.target.wants $units/sysinit.target.wants
for unit in agent power; do ln -sf ../amphora-$unit.service $units/multi-user.target.wants/; done
for unit in config net; do ln -sf ../amphora-$unit.service $units/sysinit.target.wants/; done

used=$(du -sm $root | cut -f1)
make_disk $root amphora $((used * 115 / 100 + 80)) "root=/dev/vda1 rw console=ttyS0 $kernel_arguments lsm=capability audit=0 \
net.ifnames=0 systemd.show_status=0 fsck.mode=skip" -i 8192

#!/bin/sh
# Runs inside the tools tree: /recipe/files + Debian's kernel, busybox and dropbear -> /out/image.qcow2
set -eu
. /common/boot.sh

# The last console is /dev/console, so the log goes to the serial port and tty0 is the screen.
consoles="console=tty0 console=ttyS0"
first_modules="virtio_blk virtio_net"
late_modules="button evdev ata_piix ahci sr_mod isofs nls_ascii nls_utf8 nls_cp437 nls_iso8859-1 vfat virtio-rng"

root=/out/initrd
mkdir -p $root/bin $root/lib/modules $root/lib64 $root/usr $root/etc/dropbear $root/home/cirros $root/var/log
mkdir -p $root/root $root/disk $root/mnt $root/tmp $root/run $root/proc $root/sys $root/dev
chmod 1777 $root/tmp
for link in sbin usr/bin usr/sbin; do ln -s /bin $root/$link; done
ln -s /run $root/var/run

cp /usr/bin/busybox $root/bin/
for applet in $(busybox --list); do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp /usr/sbin/dropbear /usr/bin/dropbearkey /usr/bin/dbclient $root/bin/
ln -s dbclient $root/bin/ssh
loader=/lib64/ld-linux-x86-64.so.2
cp -L $loader $root/lib64/
for program in dropbear dropbearkey dbclient; do $loader --list $root/bin/$program; done |
  mawk '$2 == "=>" {print $3}' | sort -u | xargs cp -L -t $root/lib/

rm -f $root/bin/sudo $root/bin/mkfs $root/bin/lsblk
# Modes are set here because packaging and version control may lose them.
cp -R /recipe/files/. $root/
chmod -R u=rwX,go=rX $root/bin $root/etc $root/lib
grep -rlI '^#!' $root/init $root/bin $root/etc | xargs chmod 755
chmod 600 $root/etc/shadow
for type in ext2 ext3 ext4 vfat; do ln -sf mkfs $root/bin/mkfs.$type; done

depmod "$release"
insert $root $first_modules >/out/order
insert $root $late_modules >/out/late
mv /out/order /out/late $root/lib/modules/

tree=/out/tree
mkdir -p $tree/boot
mknod -m 600 $root/dev/console c 5 1
mknod -m 666 $root/dev/null c 1 3
make_initrd $root $tree/boot/initrd
cp "/boot/vmlinuz-$release" $tree/boot/vmlinuz
make_disk $tree guestroot 56 "$consoles $kernel_arguments" -N 512

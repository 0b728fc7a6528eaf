#!/bin/sh
# Runs inside the tools tree: /recipe/files + Debian's kernel, busybox and dropbear -> /out/guest.qcow2
set -eu
export PATH=/usr/sbin:/usr/bin LC_ALL=C

size_mib=56
# The last console is /dev/console, so the log goes to the serial port and tty0 is the screen.
# Everything after "quiet" is there to save emulated instructions, or to have entropy for the host key at once.
# Not the time stamp counter: on a busy machine an emulated processor is measured wrong at boot, and the guest's clock then
# runs many times too fast, so that every timeout passes at once.
kernel_arguments="console=tty0 console=ttyS0 quiet no_timer_check tsc=unstable clocksource=acpi_pm"
kernel_arguments="$kernel_arguments mitigations=off nokaslr random.trust_cpu=on"

first_modules="virtio_blk virtio_net"
late_modules="button evdev ata_piix ahci sr_mod isofs nls_ascii nls_utf8 nls_cp437 nls_iso8859-1 vfat virtio-rng"

release=$(basename /usr/lib/modules/*)
root=/out/root
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
# insert MODULE...: puts each module and what it needs into the root, prints them in the order of loading.
insert() {
  for module; do
    modprobe -S "$release" --show-depends "$module"
  done | mawk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r file; do
    name=$(basename "$file" .ko.xz)
    target=$root/lib/modules/$name.ko
    if [ ! -e "$target" ]; then
      xz -dc "$file" >"$target"
      # Type data and the signature would be parsed at each boot, and nothing uses them.
      strip --strip-debug -R .BTF -R .BTF.base "$target"
      echo "$name"
    fi
  done
}
insert $first_modules >/out/order
insert $late_modules >/out/late
mv /out/order /out/late $root/lib/modules/

tree=/out/tree
mkdir -p $tree/boot/extlinux
mknod -m 600 $root/dev/console c 5 1
mknod -m 666 $root/dev/null c 1 3
# -l is the only lz4 format that the kernel reads; it unpacks faster than zstd and gzip.
(cd $root && find . | cpio -o -H newc --quiet -R 0:0) | lz4 -l -9 -q >$tree/boot/initrd
cp "/boot/vmlinuz-$release" $tree/boot/vmlinuz
cat >$tree/boot/extlinux/extlinux.conf <<END
DEFAULT guest
PROMPT 0
TIMEOUT 0
LABEL guest
  LINUX /boot/vmlinuz
  INITRD /boot/initrd
  APPEND $kernel_arguments
END

# extlinux fails to read 1 KiB blocks, 64bit and metadata_csum. The journal must be: without it no login works
# after a hard stop.
raw=/out/disk.raw
start=1048576
truncate -s ${size_mib}M $raw
echo '2048,,83,*' | sfdisk -q $raw
mke2fs -q -t ext4 -L guestroot -m 0 -b 4096 -N 512 -J size=4 -O ^64bit,^metadata_csum,^resize_inode,^orphan_file \
  -E offset=$start,root_owner=0:0 -d $tree $raw $(((size_mib - 1) * 1024))k
dd if=/usr/lib/syslinux/mbr/mbr.bin of=$raw conv=notrunc bs=440 count=1 status=none

# "-o loop" frees the loop device when the mount goes, also when that is by the death of this mount namespace.
mkdir /out/mount
mount -t ext4 -o loop,offset=$start,sizelimit=$(((size_mib - 1) * 1048576)) $raw /out/mount
extlinux --install /out/mount/boot/extlinux
umount /out/mount
qemu-img convert -c -O qcow2 $raw /out/guest.qcow2

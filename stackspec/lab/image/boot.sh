# Shell functions for recipes: Debian's cloud kernel, its modules, and a disk that boots them. To be sourced in the tools' tree.
export PATH=/usr/sbin:/usr/bin LC_ALL=C

release=$(basename /usr/lib/modules/*)

# Everything after "quiet" saves emulated instructions, or provides entropy for keys at once.
# Not the time stamp counter: on a busy host its speed is measured wrong at boot, and the guest's clock then runs many
# times too fast, so that all timeouts expire at once. Nor ACPI's timer, which wraps around after 4.7 s: on a busy host
# the clock of an idle guest then stops, and operations that sleep, such as the removal of a disk, never finish.
kernel_arguments="quiet no_timer_check tsc=unstable mitigations=off nokaslr random.trust_cpu=on cryptomgr.notests"

# unpack_module FILE TARGET: without type data and signature, which would be parsed at each boot and are unused.
unpack_module() {
  xz -dc "$1" >"$2"
  strip --strip-debug -R .BTF -R .BTF.base "$2"
}

# insert ROOT MODULE...: copies each module and its dependencies to ROOT/lib/modules, prints them in loading order.
insert() {
  insert_root=$1
  shift
  for module; do
    modprobe -S "$release" --show-depends "$module"
  done | mawk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r file; do
    name=$(basename "$file" .ko.xz)
    target=$insert_root/lib/modules/$name.ko
    if [ ! -e "$target" ]; then
      unpack_module "$file" "$target"
      echo "$name"
    fi
  done
}

# make_initrd ROOT FILE: -l is the only lz4 format that the kernel reads; it unpacks faster than zstd and gzip.
make_initrd() {
  (cd "$1" && find . | cpio -o -H newc --quiet -R 0:0) | lz4 -l -9 -q >"$2"
}

# make_disk TREE LABEL MIB ARGUMENTS OPTION...: /out/image.qcow2 of MIB MiB with TREE, which contains boot/vmlinuz and
# boot/initrd; it boots with kernel ARGUMENTS. OPTION... go to mke2fs.
make_disk() {
  tree=$1 label=$2 size_mib=$3 arguments=$4
  shift 4
  mkdir -p "$tree/boot/extlinux"
  cat >"$tree/boot/extlinux/extlinux.conf" <<END
DEFAULT linux
PROMPT 0
TIMEOUT 0
LABEL linux
  LINUX /boot/vmlinuz
  INITRD /boot/initrd
  APPEND $arguments
END
  # extlinux cannot read 1 KiB blocks, 64bit and metadata_csum. The journal is required: without it no login works
  # after a hard stop.
  raw=/out/disk.raw
  start=1048576
  truncate -s "${size_mib}M" $raw
  echo '2048,,83,*' | sfdisk -q $raw
  mke2fs -q -t ext4 -L "$label" -m 0 -b 4096 "$@" -J size=4 -O ^64bit,^metadata_csum,^resize_inode,^orphan_file \
    -E offset=$start,root_owner=0:0 -d "$tree" $raw $(((size_mib - 1) * 1024))k
  dd if=/usr/lib/syslinux/mbr/mbr.bin of=$raw conv=notrunc bs=440 count=1 status=none

  # "-o loop" frees the loop device on unmount, also when this mount namespace ends.
  mkdir -p /out/mount
  mount -t ext4 -o loop,offset=$start,sizelimit=$(((size_mib - 1) * 1048576)) $raw /out/mount
  extlinux --install /out/mount/boot/extlinux
  umount /out/mount
  # Compressing with zlib, the default, takes several times as long.
  qemu-img convert -c -W -O qcow2 -o compression_type=zstd $raw /out/image.qcow2
}

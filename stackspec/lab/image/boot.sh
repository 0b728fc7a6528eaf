# Shell functions for recipes: Debian's cloud kernel, its modules, and a disk that boots them. To be sourced in the tools' tree.
export PATH=/usr/sbin:/usr/bin LC_ALL=C

release=$(basename /usr/lib/modules/*)

# Everything after "quiet" is there to save emulated instructions, or to have entropy for keys at once.
# Not the time stamp counter: on a busy machine an emulated processor is measured wrong at boot, and the guest's clock then
# runs many times too fast, so that every timeout passes at once. Nor ACPI's timer, which begins again after 4.7 s: the clock
# of an idle guest on a busy machine stands still then, and what sleeps in it, such as the removal of a disk, never ends.
kernel_arguments="quiet no_timer_check tsc=unstable mitigations=off nokaslr random.trust_cpu=on"

# unpack_module FILE TARGET: type data and the signature would be parsed at each boot, and nothing uses them.
unpack_module() {
  xz -dc "$1" >"$2"
  strip --strip-debug -R .BTF -R .BTF.base "$2"
}

# insert ROOT MODULE...: puts each module and what it needs into ROOT/lib/modules, prints them in the order of loading.
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

# make_disk TREE LABEL MIB ARGUMENTS OPTION...: /out/image.qcow2 of MIB MiB with TREE, which holds boot/vmlinuz and boot/initrd, and
# boots by itself with kernel ARGUMENTS. OPTION... go to mke2fs.
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
  # extlinux fails to read 1 KiB blocks, 64bit and metadata_csum. The journal must be: without it no login works
  # after a hard stop.
  raw=/out/disk.raw
  start=1048576
  truncate -s "${size_mib}M" $raw
  echo '2048,,83,*' | sfdisk -q $raw
  mke2fs -q -t ext4 -L "$label" -m 0 -b 4096 "$@" -J size=4 -O ^64bit,^metadata_csum,^resize_inode,^orphan_file \
    -E offset=$start,root_owner=0:0 -d "$tree" $raw $(((size_mib - 1) * 1024))k
  dd if=/usr/lib/syslinux/mbr/mbr.bin of=$raw conv=notrunc bs=440 count=1 status=none

  # "-o loop" frees the loop device when the mount goes, also when that is by the death of this mount namespace.
  mkdir -p /out/mount
  mount -t ext4 -o loop,offset=$start,sizelimit=$(((size_mib - 1) * 1048576)) $raw /out/mount
  extlinux --install /out/mount/boot/extlinux
  umount /out/mount
  qemu-img convert -c -W -O qcow2 $raw /out/image.qcow2
}

#!/bin/sh
# Boots one node and waits for it; a reboot boots it again, a poweroff ends this script.
#   NAME host name · NETNS file of its network namespace · GROUP its control group · NODE its directory
#   LOWER read-only layers, newest first, in overlayfs syntax · DEV (attach) the /dev of a running node
#   COMPILED directory of Python modules compiled by nodes
set -eu
stage=${1:-wait}

# Loop devices belong to the host and outlive the node: its disks, and those that it created itself, which keep its file
# system in use.
loops() {
  device=$(cat "$NODE/device" 2>/dev/null) || device=none
  losetup --list --noheadings --output NAME,BACK-MAJ:MIN,BACK-FILE | while read -r name backing file; do
    case $backing,$file in
      "$device",* | *,"$NODE"/disks/*) echo "$name" ;;
    esac
  done
}

detach() {
  # May run twice at once, by the command that stops the node and by the helper that waits for it.
  for name in $(loops); do
    losetup --detach "$name" || true
  done
  # A device in use is detached with its last mount; file systems of a killed node take a moment to unmount.
  tries=200
  while [ "$tries" -gt 0 ] && [ -n "$(loops)" ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  rm -f "$NODE/device"
}

# Disks are files named <lab>-<node>.<device>.
attach() {
  for disk in "$NODE"/disks/*.*; do
    [ -e "$disk" ] || continue
    [ -n "$(losetup --associated "$disk")" ] || losetup --find "$disk"
  done
}

devices() { # directory of the node's devices
  for disk in "$NODE"/disks/*.*; do
    [ ! -e "$disk" ] || [ -e "$1/${disk##*.}" ] || {
      numbers=$(losetup --list --noheadings --output MAJ:MIN --associated "$disk" | tr -d ' ')
      mknod -m 660 "$1/${disk##*.}" b "${numbers%:*}" "${numbers#*:}"
    }
  done
}

if [ "$stage" = detach ]; then
  detach
  exit 0
fi

if [ "$stage" = attach ]; then
  attach
  devices "$DEV"
  exit 0
fi

if [ "$stage" = wait ]; then
  while :; do
    status=0
    attach
    nsenter --net="$NETNS" unshare --pid --fork --kill-child sh "$0" group || status=$?
    detach
    # The kernel kills the init of a PID namespace with SIGHUP on reboot and with SIGINT on poweroff.
    [ "$status" -eq 129 ] || exit "$status"
  done
fi

if [ "$stage" = group ]; then
  # Before the cgroup namespace is created, so that the node's root is this group and not the host's.
  echo 0 > "$GROUP/cgroup.procs"
  exec unshare --mount --uts --ipc --cgroup --propagation private sh "$0" root
fi

# All mounts are in the node's own mount namespace: they disappear with its last process, even if it is killed.
hostname "$NAME"
rm -rf "$NODE/work"
mkdir -p "$NODE/work" "$NODE/root"
# volatile: fsync, which takes most of the time of package installations, does not reach the disk. The layer is only
# lost if the host itself crashes.
options=lowerdir=$LOWER,upperdir=$NODE/upper,workdir=$NODE/work,redirect_dir=on,index=off,metacopy=off
mount -t overlay overlay -o "$options,volatile" "$NODE/root" || mount -t overlay overlay -o "$options" "$NODE/root"
mountpoint -d "$NODE/root" > "$NODE/device"
cd "$NODE/root"

mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 600 dev/kmsg c 1 11
# The real console belongs to the host.
mknod -m 600 dev/console c 1 3
mkdir dev/pts dev/shm dev/net dev/mapper
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mknod -m 666 dev/net/tun c 10 200
mknod -m 666 dev/fuse c 10 229
mknod -m 660 dev/loop-control c 10 237
number=0
while [ "$number" -lt 64 ]; do
  mknod -m 660 "dev/loop$number" b 7 "$number"
  number=$((number + 1))
done
devices dev
mount -t tmpfs -o mode=755 tmpfs run
# Without devtmpfs on /dev, systemd listens to udev only if this file exists at boot. Otherwise disks never appear, and
# mounts of fstab time out.
mkdir run/udev
: > run/udev/control
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p var/cache/compiled
mount --bind "$COMPILED" var/cache/compiled

mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
# Network namespaces that services create must be visible to all processes of the node.
mount --make-rshared /
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init --log-target=journal --show-status=no

#!/bin/sh
# Boots one node and waits for it; a reboot of the node boots it again, a poweroff ends this.
#   NAME host name · NETNS file of its network namespace · GROUP its control group · NODE its directory
#   LOWER read-only layers, newest first, as overlayfs wants them · DEV (attach) the /dev of a node that runs
set -eu
stage=${1:-wait}

# Loop devices are the machine's and outlive the node: its disks, and those that it made itself, each of which keeps its
# file system in use.
loops() {
  device=$(cat "$NODE/device" 2>/dev/null) || device=none
  losetup --list --noheadings --output NAME,BACK-MAJ:MIN,BACK-FILE | while read -r name backing file; do
    case $backing,$file in
      "$device",* | *,"$NODE"/disks/*) echo "$name" ;;
    esac
  done
}

detach() {
  # Whoever ends the node and what waits for it may both be here; nothing is done twice.
  for name in $(loops); do
    losetup --detach "$name" || true
  done
  # One that is in use goes with its last mount, and file systems of a killed node take a moment to go.
  tries=200
  while [ "$tries" -gt 0 ] && [ -n "$(loops)" ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  rm -f "$NODE/device"
}

# Disks are files called <lab>-<node>.<device>.
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
    # The kernel ends the init of a process namespace with SIGHUP for a reboot, with SIGINT for a poweroff.
    [ "$status" -eq 129 ] || exit "$status"
  done
fi

if [ "$stage" = group ]; then
  # Before the control group namespace is made, so that the node's root is this group and not the machine's.
  echo 0 > "$GROUP/cgroup.procs"
  exec unshare --mount --uts --ipc --cgroup --propagation private sh "$0" root
fi

# All mounts are made in the node's own mount namespace: they go with its last process, even when that is killed.
hostname "$NAME"
rm -rf "$NODE/work"
mkdir -p "$NODE/work" "$NODE/root"
# volatile: no fsync reaches the disk, which is what package installs spend most time on. The layer is as good as the
# page cache, so it only suffers when the machine itself goes down.
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
# The real console is the machine's.
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
# Where /dev is no devtmpfs, systemd looks for this before it listens to udev, which it starts later itself: without it
# no disk ever appears, and what fstab mounts is waited for in vain.
mkdir run/udev
: > run/udev/control
mount -t tmpfs -o mode=1777 tmpfs tmp

mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
# Network namespaces that services make in here must be seen by all processes of the node.
mount --make-rshared /
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init --log-target=journal --show-status=no

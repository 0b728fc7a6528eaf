#!/bin/sh
# Boots a node with its own kernel and waits for it; arguments are passed to the kernel.
#   GROUP its control group · NETNS file of the network namespace of its interfaces · NODE its directory
#   TREE the unpacked kernel · MEMORY MiB · CPU the processor that it runs on
#   COMPILED directory of Python modules compiled by nodes
set -eu

if [ "${STAGE:-group}" = group ]; then
  echo 0 > "$GROUP/cgroup.procs"
  # Where the host shares its time among sessions, the priority below only counts inside this one.
  [ ! -e /proc/self/autogroup ] || echo -10 > /proc/self/autogroup
  # The shell remains as the first process of the node's PID namespace: when it ends, all processes of the node end.
  exec env STAGE=root nsenter --net="$NETNS" \
    unshare --mount --ipc --pid --fork --kill-child --propagation private sh "$0" "$@"
fi

# All mounts are in the node's own mount namespace: they disappear with its last process, even if it is killed.
# The kernel only sees its own tree, with the C library that it was built for, and the node's directory.
root=$NODE/root
mkdir -p "$root" "$NODE/uml"
rm -rf "$NODE"/uml/*
mount --bind "$TREE" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/net" "$root/dev/compiled"
mount --bind "$COMPILED" "$root/dev/compiled"
# The node's memory is a file that is deleted immediately; its kernel maps it and runs code in it.
mount -t tmpfs -o "size=$((MEMORY + 64))m,exec" tmpfs "$root/dev/shm"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/net/tun" c 10 200
mount --bind "$NODE" "$root/node"

# The kernel and its programs are host processes that wait for each other at each system call. On one processor they
# switch over three times as fast as on two; the high priority keeps other processes from delaying each call. Each of the
# 256 old pseudoterminals would be a device that udev and systemd keep.
env -i PATH="$PATH" TMPDIR=/dev/shm taskset --cpu-list "$CPU" nice -n -10 setarch -R chroot "$root" /usr/bin/linux.uml \
  seccomp=on uml_dir=/node/uml/ root=/dev/ubda rootflags=barrier=0 rw \
  con=null con0=null,fd:1 con1=null pty.legacy_count=0 "$@" < /dev/null

#!/bin/sh
# Boots a node with a kernel of its own and waits for it; the arguments are the kernel's.
#   GROUP its control group · NETNS file of the network namespace of its interfaces · NODE its directory
#   TREE the unpacked kernel · MEMORY MiB · CPU the processor that it runs on
set -eu

if [ "${STAGE:-group}" = group ]; then
  echo 0 > "$GROUP/cgroup.procs"
  # The shell stays as first process of the node's process namespace: with it, everything of the node ends.
  exec env STAGE=root nsenter --net="$NETNS" \
    unshare --mount --ipc --pid --fork --kill-child --propagation private sh "$0" "$@"
fi

# All mounts are made in the node's own mount namespace: they go with its last process, even when that is killed.
# The kernel sees its own tree and the node's directory, so that it meets the C library that it was made for.
root=$NODE/root
mkdir -p "$root" "$NODE/uml"
rm -rf "$NODE"/uml/*
mount --bind "$TREE" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/net"
# The node's memory is a file that is gone from here at once; its kernel maps it and runs code in it.
mount -t tmpfs -o "size=$((MEMORY + 64))m,exec" tmpfs "$root/dev/shm"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/zero" c 1 5
mknod -m 666 "$root/dev/random" c 1 8
mknod -m 666 "$root/dev/urandom" c 1 9
mknod -m 666 "$root/dev/net/tun" c 10 200
mount --bind "$NODE" "$root/node"

# The kernel and its programs are processes of this machine that wait for each other at each system call. On one
# processor they change over three times as fast as on two, and whoever comes between them makes each call slower.
env -i PATH="$PATH" TMPDIR=/dev/shm taskset --cpu-list "$CPU" nice -n -10 setarch -R chroot "$root" /usr/bin/linux.uml \
  seccomp=on uml_dir=/node/uml/ root=/dev/ubda rootflags=barrier=0 rw \
  con=null con0=null,fd:1 con1=null "$@" < /dev/null

#!/bin/busybox sh
# The first program of a node with the cgroupfs driver: mounts, cgroups of the services, containerd, kubelet.
export PATH=/usr/local/bin:/bin HOME=/root

mount -t proc proc /proc
mount -t sysfs sys /sys
grep -q " /dev devtmpfs" /proc/mounts || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
# Volumes that are mounted later must show inside of containers.
mount --make-rshared /
tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id
. /usr/local/lib/node/set-up

# What serves a node runs in cgroups of its own, as under systemd. The root keeps this program alone.
cd /sys/fs/cgroup || exit 1
enable() { for controller in cpuset cpu io memory pids; do echo "+$controller" > "$1/cgroup.subtree_control"; done; }
enable .
mkdir system.slice
enable system.slice
in_service() {
  mkdir -p "/sys/fs/cgroup/system.slice/$1.service"
  sh -c 'echo $$ > "/sys/fs/cgroup/system.slice/$0.service/cgroup.procs"; exec "$@"' "$@"
}
cd / || exit 1

# A shell for whoever can reach the node: the network has no way out.
in_service debug nc -ll -p 2323 -e /bin/sh 2> /dev/null &
say "starting containerd"
in_service containerd containerd --config /etc/containerd/config.toml > /var/log/containerd.log 2>&1 &
while [ ! -S /run/containerd/containerd.sock ]; do sleep 0.2; done
say "starting kubelet"
in_service kubelet /usr/local/lib/node/kubelet > /var/log/kubelet.log 2>&1 &
say "init done"
# The first program takes in whoever lost his parent.
while :; do wait; sleep 1; done

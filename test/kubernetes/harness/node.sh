#!/usr/bin/env bash
# The first process of a node's own namespaces (pid, mount, network): sets them up, starts containerd and the programs of
# Kubernetes by the argument files that lie in the folder, and waits. Everything ends with it.
#   node.sh FOLDER ADDRESS
set -euo pipefail
folder=$1
address=$2

# Mounts: what happens here is not seen outside.
mount --make-rshared /
mkdir -p /run/containerd /run/netns
mount -t tmpfs tmpfs /run/containerd
mount -t tmpfs tmpfs /run/netns
# A kubelet takes away the logs of pods that it does not know: of other nodes on this machine, too.
mkdir -p /var/log/pods /var/log/containers
mount -t tmpfs tmpfs /var/log/pods
mount -t tmpfs tmpfs /var/log/containers
mount --make-shared /run/netns

# The kubelet would set these for the whole machine: let it find them as it wants them.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  name=${setting%%=*}
  file=$folder/sysctl-${name//\//-}
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/$name"
done

# The network: a bridge with the node's address; a pair of devices gives it a carrier.
ip link set lo up
ip link add node0 type bridge
ip link add nv0 type veth peer name nv1
ip link set nv0 master node0
ip link set nv0 up
ip link set nv1 up
ip addr add "$address/24" dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

# Each program has a file of its name with the command line, one word a line.
for file in "$folder"/programs/*; do
  mapfile -t words <"$file"
  "${words[@]}" >"$folder/log/$(basename "$file").log" 2>&1 </dev/null &
done
touch "$folder/started"
# Standard input is a pipe that the test holds: it ends with the test, however that ends.
exec cat >/dev/null

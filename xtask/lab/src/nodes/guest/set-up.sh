# Part of the start of every node, whatever its first program: modules, what tells it from other nodes, network.
# The archive that QEMU hands over says who the node is; its credentials and its static pods are in it, too.
say() { read -r up rest < /proc/uptime; echo "[node $up] $*" > /dev/console; }

for module in $(cat /modules/order); do
  insmod "/modules/$module.ko" || say "cannot load the module $module"
done
mkdir -p /etc/node && cd /etc/node || exit 1
cpio -id < /sys/firmware/qemu_fw_cfg/by_name/opt/waggle/node/raw 2> /dev/null
cd / || exit 1
. /etc/node/identity
hostname "$NAME"
echo "127.0.0.1 localhost $NAME" > /etc/hosts

# The network card is a port of the pods' bridge: pods are on the same layer 2 as the nodes and the control plane.
ip link set lo up
ip link add cni0 type bridge
ip link set eth0 master cni0
ip link set cni0 address "$(cat /sys/class/net/eth0/address)"
ip link set eth0 up
ip link set cni0 up
ip addr add "$ADDRESS/$BITS" dev cni0
ip route add default via "$GATEWAY"

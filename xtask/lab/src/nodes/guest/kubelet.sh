#!/bin/sh
# The kubelet of this node.
. /etc/node/identity
exec kubelet --config=/etc/kubelet.json --kubeconfig=/etc/node/kubeconfig --hostname-override="$NAME" \
  --node-ip="$ADDRESS"

//! A stand-in for kube-apiserver.

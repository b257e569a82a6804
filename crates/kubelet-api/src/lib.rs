//! The kubelet's gRPC interfaces over unix sockets.

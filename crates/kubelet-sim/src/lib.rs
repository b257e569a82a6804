//! An embedded kubelet: registration, device manager, admission, PodResources.

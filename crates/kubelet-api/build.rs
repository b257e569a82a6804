//! Generates the message types, clients and servers from `proto/` without a protoc.

use std::error::Error;

const PROTOS: [&str; 3] = ["cri.proto", "deviceplugin.proto", "podresources.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for proto in PROTOS {
        println!("cargo::rerun-if-changed=proto/{proto}");
        // One compilation for each file: both packages define TopologyInfo and others.
        let descriptors = protox::compile([proto], ["proto"])?;
        tonic_prost_build::configure()
            // Connections are made by `uds`, which needs none of tonic's transport.
            .build_transport(false)
            // Maps in answers keep one order, so that equal answers are equal bytes.
            .btree_map(".")
            .bytes("ContainerPreferredAllocationRequest.available_device_ids")
            .compile_fds(descriptors)?;
    }
    Ok(())
}

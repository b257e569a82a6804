//! Of which driver a spec is.

use super::spec::CdiSpec;

/// Libraries that every driver has, and that carry its version.
const LANDMARKS: [&str; 2] = ["libcuda.so.", "libnvidia-ml.so."];

/// The version of the driver whose libraries a spec mounts, told by their names.
pub fn driver_version(spec: &CdiSpec) -> Option<&str> {
    let all = std::iter::once(&spec.container_edits);
    let edits = all.chain(spec.devices.iter().map(|device| &device.container_edits));
    edits.flat_map(|edits| &edits.mounts).find_map(|mount| {
        let name = mount.host_path.rsplit('/').next()?;
        let version = LANDMARKS
            .iter()
            .find_map(|landmark| name.strip_prefix(landmark))?;
        version.contains('.').then_some(version)
    })
}

#[cfg(test)]
mod tests {
    use super::super::spec::{ContainerEdits, Mount};
    use super::*;

    #[test]
    fn the_driver_of_a_spec_is_told_by_its_libraries() {
        let spec = |path: &str| CdiSpec {
            container_edits: ContainerEdits {
                mounts: vec![Mount {
                    host_path: path.to_owned(),
                    ..Mount::default()
                }],
                ..ContainerEdits::default()
            },
            ..CdiSpec::default()
        };
        let of = |path: &str| driver_version(&spec(path)).map(str::to_owned);
        assert_eq!(
            of("/usr/lib64/libcuda.so.550.54.15").as_deref(),
            Some("550.54.15")
        );
        assert_eq!(of("/usr/lib64/libcuda.so.1"), None);
        assert_eq!(of("/usr/lib64/libcudadebugger.so.550.54.15"), None);
    }
}

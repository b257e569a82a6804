//! Which `/dev/nvidia-caps/nvidia-cap<m>` stands for which instance.

use std::fs;
use std::sync::OnceLock;

use mizzen_core::mig::Capabilities;

use crate::host::HostRoot;

/// GPU's minor number, GPU instance, compute instance.
type Instance = (u32, u32, Option<u32>);

/// The minor numbers of the capabilities of MIG, read when the first is asked for: the table has
/// thousands of lines, and most nodes need none of them.
#[derive(Debug)]
pub(crate) struct CapabilityMinors {
    host: HostRoot,
    table: OnceLock<Vec<(Instance, u32)>>,
}

impl CapabilityMinors {
    pub(crate) fn new(host: HostRoot) -> Self {
        Self {
            host,
            table: OnceLock::new(),
        }
    }

    /// Those of a compute instance and of its GPU instance, on the GPU of this minor number.
    pub(super) fn of(&self, gpu: u32, instance: u32, compute: u32) -> Capabilities {
        Capabilities {
            gpu_instance: self.find((gpu, instance, None)),
            compute_instance: self.find((gpu, instance, Some(compute))),
        }
    }

    fn find(&self, instance: Instance) -> Option<u32> {
        let table = self.table.get_or_init(|| {
            let file = self.host.join("proc/driver/nvidia-caps/mig-minors");
            parse(&fs::read_to_string(file).unwrap_or_default())
        });
        match table.binary_search_by_key(&instance, |(instance, _)| *instance) {
            Ok(found) => Some(table[found].1),
            Err(_) => self.in_its_file(instance),
        }
    }

    /// From the instance's own file, which is there as long as the instance.
    fn in_its_file(&self, (gpu, instance, compute): Instance) -> Option<u32> {
        let compute = compute.map_or_else(String::new, |id| format!("/ci{id}"));
        let file = self.host.join(format!(
            "proc/driver/nvidia/capabilities/gpu{gpu}/mig/gi{instance}{compute}/access"
        ));
        let text = fs::read_to_string(file).ok()?;
        let minor = |line: &str| line.strip_prefix("DeviceFileMinor:")?.trim().parse().ok();
        text.lines().find_map(minor)
    }
}

/// The lines `gpu<g>/gi<i>/access <m>` and `gpu<g>/gi<i>/ci<j>/access <m>`, ordered.
fn parse(text: &str) -> Vec<(Instance, u32)> {
    let mut table: Vec<_> = text.lines().filter_map(parse_line).collect();
    table.sort_unstable();
    table
}

fn parse_line(line: &str) -> Option<(Instance, u32)> {
    let (name, minor) = line.split_once("/access ")?;
    let mut parts = name.split('/');
    let gpu = parts.next()?.strip_prefix("gpu")?.parse().ok()?;
    let instance = parts.next()?.strip_prefix("gi")?.parse().ok()?;
    let compute = match parts.next() {
        Some(part) => Some(part.strip_prefix("ci")?.parse().ok()?),
        None => None,
    };
    let minor = minor.trim().parse().ok()?;
    parts
        .next()
        .is_none()
        .then_some(((gpu, instance, compute), minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, CapabilityMinors) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let minors = CapabilityMinors::new(HostRoot::new(root.path()));
        (root, minors)
    }

    fn both(gpu_instance: Option<u32>, compute_instance: Option<u32>) -> Capabilities {
        Capabilities {
            gpu_instance,
            compute_instance,
        }
    }

    #[test]
    fn instances_are_found_in_the_table_of_the_driver() {
        let table = "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n\
                     gpu0/gi1/ci1/access 14\ngpu10/gi1/access 1362\nnonsense\ngpu0/gi2/access x\n\
                     gpu1/gi0/ci0/sm0/access 9\n";
        let (_root, minors) = host(&[("proc/driver/nvidia-caps/mig-minors", table)]);
        assert_eq!(minors.of(0, 1, 0), both(Some(12), Some(13)));
        assert_eq!(minors.of(0, 1, 1), both(Some(12), Some(14)));
        assert_eq!(minors.of(10, 1, 0), both(Some(1362), None));
        assert_eq!(minors.of(0, 2, 0), both(None, None));
        assert_eq!(minors.of(1, 0, 0), both(None, None));
    }

    #[test]
    fn without_a_table_the_files_of_the_instances_tell() {
        let place = "proc/driver/nvidia/capabilities/gpu3/mig/gi7";
        let (_root, minors) = host(&[
            (
                &format!("{place}/access"),
                "DeviceFileMinor: 471\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
            ),
            (&format!("{place}/ci0/access"), "DeviceFileMinor: 472\n"),
        ]);
        assert_eq!(minors.of(3, 7, 0), both(Some(471), Some(472)));
        assert_eq!(minors.of(3, 8, 0), both(None, None));
    }
}

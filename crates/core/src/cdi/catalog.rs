//! All specs of a node together, as a runtime reads them.

use std::collections::BTreeMap;

use super::spec::{CdiDevice, CdiSpec};

/// A spec file of a node, or a directory of them that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogFile {
    /// Its path, for messages.
    pub path: String,
    /// The position of its directory: a device of a later directory replaces that of an earlier
    /// one.
    pub priority: usize,
    /// What it holds, or why a runtime passes it over.
    pub spec: Result<CdiSpec, String>,
}

/// The devices that the files make known.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    files: Vec<CatalogFile>,
    /// For each full name the places of the devices that have it, as file and device.
    devices: BTreeMap<String, Vec<(usize, usize)>>,
}

/// What a name means to a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution<'a> {
    /// This device of this file.
    Device(&'a CatalogFile, &'a CdiDevice),
    /// Several files of equal rank have a device of this name, and so none counts.
    Conflict(Vec<&'a CatalogFile>),
    /// No device has this name.
    Unknown,
}

impl Catalog {
    /// Takes in all files of the spec directories.
    pub fn new(files: Vec<CatalogFile>) -> Self {
        let mut devices: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
        for (at, file) in files.iter().enumerate() {
            let Ok(spec) = &file.spec else { continue };
            for (number, device) in spec.devices.iter().enumerate() {
                let name = format!("{}={}", spec.kind, device.name);
                devices.entry(name).or_default().push((at, number));
            }
        }
        Self { files, devices }
    }

    /// The files.
    pub fn files(&self) -> &[CatalogFile] {
        &self.files
    }

    /// The names of all devices, those that do not resolve too, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// What a full name means.
    pub fn resolve(&self, name: &str) -> Resolution<'_> {
        let Some(places) = self.devices.get(name) else {
            return Resolution::Unknown;
        };
        let priority = |place: &&(usize, usize)| self.files[place.0].priority;
        let highest = places.iter().map(|place| priority(&place)).max();
        let best: Vec<_> = places
            .iter()
            .filter(|place| Some(priority(place)) == highest)
            .collect();
        let device = |(file, number): (usize, usize)| {
            let spec = self.files[file].spec.as_ref().ok()?;
            Some(Resolution::Device(&self.files[file], &spec.devices[number]))
        };
        match best.as_slice() {
            [place] => device(**place).unwrap_or(Resolution::Unknown),
            several => {
                Resolution::Conflict(several.iter().map(|place| &self.files[place.0]).collect())
            }
        }
    }

    /// Whether a runtime finds a device of this full name.
    pub fn resolves(&self, name: &str) -> bool {
        matches!(self.resolve(name), Resolution::Device(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, priority: usize, names: &[&str]) -> CatalogFile {
        let device = |name: &&str| CdiDevice {
            name: (*name).to_owned(),
            ..CdiDevice::default()
        };
        CatalogFile {
            path: path.to_owned(),
            priority,
            spec: Ok(CdiSpec {
                kind: "v.com/c".to_owned(),
                devices: names.iter().map(device).collect(),
                ..CdiSpec::default()
            }),
        }
    }

    #[test]
    fn a_later_directory_wins_and_equals_cancel_each_other() {
        let broken = CatalogFile {
            path: "broken".to_owned(),
            priority: 1,
            spec: Err("no spec".to_owned()),
        };
        let catalog = Catalog::new(vec![
            file("low", 0, &["a", "b"]),
            file("high", 1, &["b", "c"]),
            file("other", 1, &["c"]),
            broken,
        ]);
        let found = |name: &str| match catalog.resolve(name) {
            Resolution::Device(file, _) => file.path.clone(),
            Resolution::Conflict(files) => {
                let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
                paths.join(" and ")
            }
            Resolution::Unknown => "nothing".to_owned(),
        };
        assert_eq!(found("v.com/c=a"), "low");
        assert_eq!(found("v.com/c=b"), "high");
        assert_eq!(found("v.com/c=c"), "high and other");
        assert_eq!(found("v.com/c=d"), "nothing");
        assert!(catalog.resolves("v.com/c=b") && !catalog.resolves("v.com/c=c"));
        assert_eq!(catalog.names().count(), 3);
    }
}

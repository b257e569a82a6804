//! A GPU's constant facts, and texts, as words.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::layout::RECORD_WORDS;
use crate::identity::{PciAddress, Uuid};
use crate::model::GpuModel;
use crate::node::{Gpu, InitialMig, LinkPeer, MAX_INSTANCES};

const KEY_WORDS: usize = 3;
const NAME_WORDS: usize = 12;
const SERIAL_WORDS: usize = 4;
const LINK_WORDS: usize = 3;
const DOWN: u8 = u8::MAX;
const SWITCH: u8 = u8::MAX - 1;

/// Appends words to a record.
struct Pen {
    words: [u64; RECORD_WORDS],
    at: usize,
}

impl Pen {
    fn word(&mut self, word: u64) {
        self.words[self.at] = word;
        self.at += 1;
    }

    fn halves(&mut self, high: u32, low: u32) {
        self.word(u64::from(high) << 32 | u64::from(low));
    }

    fn bytes(&mut self, bytes: &[u8], words: usize) {
        let mut chunks = bytes.chunks(8);
        for _ in 0..words {
            self.word(packed(chunks.next().unwrap_or(&[])));
        }
    }
}

fn packed(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Takes words from a record.
struct Eye {
    words: [u64; RECORD_WORDS],
    at: usize,
}

impl Eye {
    fn word(&mut self) -> u64 {
        self.at += 1;
        self.words[self.at - 1]
    }

    fn halves(&mut self) -> (u32, u32) {
        let word = self.word();
        (high(word), low(word))
    }

    fn bytes(&mut self, words: usize) -> Vec<u8> {
        (0..words).flat_map(|_| self.word().to_le_bytes()).collect()
    }

    fn text(&mut self, words: usize) -> String {
        trimmed(&self.bytes(words))
    }
}

#[allow(clippy::cast_possible_truncation, reason = "takes the lower half")]
fn low(word: u64) -> u32 {
    word as u32
}

fn high(word: u64) -> u32 {
    low(word >> 32)
}

fn trimmed(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Stores a text into words of the file; what does not fit is cut.
pub(super) fn store_text(words: &[AtomicU64], text: &str) {
    let mut chunks = text.as_bytes().chunks(8);
    for word in words {
        word.store(packed(chunks.next().unwrap_or(&[])), Relaxed);
    }
}

/// Reads a text from words of the file.
pub(super) fn load_text(words: &[AtomicU64]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.load(Relaxed).to_le_bytes())
        .collect();
    trimmed(&bytes)
}

pub(super) fn store(words: &[AtomicU64; RECORD_WORDS], gpu: &Gpu) {
    for (word, value) in words.iter().zip(encode(gpu)) {
        word.store(value, Relaxed);
    }
}

/// The GPU in these words; none if they name a model that this build does not have.
pub(super) fn load(words: &[AtomicU64; RECORD_WORDS]) -> Option<Gpu> {
    decode(&std::array::from_fn(|index| words[index].load(Relaxed)))
}

fn encode(gpu: &Gpu) -> [u64; RECORD_WORDS] {
    let mut pen = Pen {
        words: [0; RECORD_WORDS],
        at: 0,
    };
    pen.bytes(gpu.model.key.as_bytes(), KEY_WORDS);
    pen.bytes(gpu.name.as_bytes(), NAME_WORDS);
    pen.bytes(gpu.serial.as_bytes(), SERIAL_WORDS);
    pen.bytes(&gpu.uuid.bytes(), 2);
    pen.halves(gpu.minor, gpu.module_id);
    pen.halves(
        gpu.pci.domain,
        u32::from(gpu.pci.bus) << 8 | u32::from(gpu.pci.device),
    );
    pen.halves(u32::from(gpu.device_id), u32::from(gpu.subsystem_id));
    pen.word(gpu.memory_mib);
    pen.halves(gpu.compute_capability.0, gpu.compute_capability.1);
    pen.halves(gpu.power_limit, gpu.numa);
    pen.halves(u32::from(gpu.pcie_root), count(gpu.pcie_switches.len()));
    let switches: Vec<u8> = gpu
        .pcie_switches
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    pen.bytes(&switches, 1);
    pen.word(u64::from(count(gpu.links.len())));
    let links: Vec<u8> = gpu.links.iter().map(|&link| link_byte(link)).collect();
    pen.bytes(&links, LINK_WORDS);
    pen.bytes(&mig_bytes(&gpu.mig), 1);
    pen.words
}

fn decode(words: &[u64; RECORD_WORDS]) -> Option<Gpu> {
    let mut eye = Eye {
        words: *words,
        at: 0,
    };
    let model = GpuModel::by_key(&eye.text(KEY_WORDS))?;
    let name = eye.text(NAME_WORDS);
    let serial = eye.text(SERIAL_WORDS);
    let uuid = Uuid::from_bytes(eye.bytes(2).try_into().ok()?);
    let (minor, module_id) = eye.halves();
    let (domain, place) = eye.halves();
    let [device, bus, ..] = place.to_le_bytes();
    let (device_id, subsystem_id) = eye.halves();
    let memory_mib = eye.word();
    let compute_capability = eye.halves();
    let (power_limit, numa) = eye.halves();
    let (root, depth) = eye.halves();
    let switches = eye.bytes(1);
    let links = eye.word();
    let peers = eye.bytes(LINK_WORDS);
    let mig = eye.bytes(1);
    Some(Gpu {
        model,
        name,
        uuid,
        serial,
        minor,
        pci: PciAddress::new(domain, bus, device),
        device_id: u16::try_from(device_id).ok()?,
        subsystem_id: u16::try_from(subsystem_id).ok()?,
        memory_mib,
        compute_capability,
        power_limit,
        numa,
        pcie_root: u16::try_from(root).ok()?,
        pcie_switches: switches
            .chunks_exact(2)
            .map(|id| u16::from_le_bytes([id[0], id[1]]))
            .take(depth as usize)
            .collect(),
        module_id,
        links: peers
            .iter()
            .map(|&byte| peer(byte))
            .take(usize::try_from(links).ok()?)
            .collect(),
        mig: initial_mig(model, &mig),
    })
}

/// Whether MIG is on, and one more than the number of each instance's profile.
fn mig_bytes(mig: &InitialMig) -> [u8; 1 + MAX_INSTANCES] {
    let mut bytes = [0; 1 + MAX_INSTANCES];
    bytes[0] = u8::from(mig.enabled);
    for (byte, kind) in bytes[1..].iter_mut().zip(&mig.instances) {
        *byte = *kind as u8 + 1;
    }
    bytes
}

fn initial_mig(model: &GpuModel, bytes: &[u8]) -> InitialMig {
    let kind = |byte: &u8| {
        let number = byte.checked_sub(1)?;
        Some(model.mig?.by_kind(u32::from(number))?.kind)
    };
    InitialMig {
        enabled: bytes[0] == 1,
        instances: bytes[1..].iter().map_while(kind).collect(),
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn link_byte(link: LinkPeer) -> u8 {
    match link {
        LinkPeer::Down => DOWN,
        LinkPeer::Switch => SWITCH,
        LinkPeer::Gpu(slot) => slot,
    }
}

fn peer(byte: u8) -> LinkPeer {
    match byte {
        DOWN => LinkPeer::Down,
        SWITCH => LinkPeer::Switch,
        slot => LinkPeer::Gpu(slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_gpu_survives_the_way_through_its_words() {
        let all: Vec<String> = crate::model::MODELS
            .iter()
            .map(|m| format!("2x{}", m.key))
            .collect();
        let node = Scenario::short(&all.join(",")).unwrap().plan().unwrap();
        for mut gpu in node.gpus {
            assert_eq!(decode(&encode(&gpu)).as_ref(), Some(&gpu));
            gpu.name = "é".repeat(47);
            gpu.serial = "9".repeat(29);
            gpu.pcie_switches = vec![1, 2, 3, u16::MAX];
            if let Some(table) = gpu.model.mig {
                let kinds = table.profiles.iter().rev().map(|profile| profile.kind);
                gpu.mig.enabled = true;
                gpu.mig.instances = kinds.take(MAX_INSTANCES).collect();
            }
            assert_eq!(decode(&encode(&gpu)).as_ref(), Some(&gpu));
        }
    }

    #[test]
    fn words_that_name_no_model_are_no_gpu() {
        assert_eq!(decode(&[0; RECORD_WORDS]), None);
        assert_eq!(decode(&[u64::MAX; RECORD_WORDS]), None);
    }
}

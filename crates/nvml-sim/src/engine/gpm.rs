//! GPU performance monitoring (GPM): what lies between two samples of a GPU, or of an instance.

use super::{Device, Failure};
use crate::identity::Uuid;
use crate::state::clock;

/// Which part of their speed NVLinks reach when the GPU is busy.
const LINK_SHARE: f64 = 0.4;
/// Bytes that PCIe carries from and to a GPU for each percent of its utilisation, a second.
const PCIE_TO_HOST: f64 = 1_200_000.0;
const PCIE_FROM_HOST: f64 = 2_400_000.0;
const MIB: f64 = 1_048_576.0;

/// One past the highest metric id, `NVML_GPM_METRIC_MAX` of NVML 13.
pub(crate) const METRICS: u32 = 333;

/// What a GPU, or one of its instances, had done when it was asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpmSample {
    gpu: Uuid,
    gpu_instance: Option<u32>,
    /// Nanoseconds since boot.
    time: u64,
    /// Utilisation of SMs and memory until then, % × s.
    work: [f64; 2],
    /// Utilisation at that time, where no program says what there was in between.
    now: Option<f64>,
    /// Bytes a second that its NVLinks carry in each direction when it is busy.
    link_bytes: f64,
}

impl Device<'_> {
    /// Takes a sample, of a GPU instance if one is given.
    ///
    /// # Errors
    /// The GPU is older than Hopper, is not partitioned, or has no such instance.
    pub fn gpm_sample(&self, gpu_instance: Option<u32>) -> Result<GpmSample, Failure> {
        if !self.model().has_gpm() {
            return Err(Failure::NotSupported);
        }
        let (work, now) = match gpu_instance {
            Some(id) => {
                let partition = self.partition()?;
                partition
                    .gpu_instance(id)
                    .map_err(|_| Failure::InvalidArgument)?;
                self.instance_work(id)
            }
            None => self.whole_work(),
        };
        Ok(GpmSample {
            gpu: self.uuid(),
            gpu_instance,
            time: clock::now(),
            work,
            now,
            link_bytes: self.link_bytes(),
        })
    }

    fn whole_work(&self) -> ([f64; 2], Option<f64>) {
        let load = self.slot.load();
        let work = load.work_now();
        let shared = match (load.utilization, self.partition()) {
            (None, Ok(partition)) => {
                let instances = partition.gpu_instances.iter();
                let slices = f64::from(partition.table.slices);
                let busy = instances.map(|instance| {
                    let part = f64::from(instance.profile.kind.slices()) / slices;
                    self.instance_busy(instance.id) * part
                });
                Some(busy.sum())
            }
            _ => None,
        };
        ([work.busy, work.memory], shared)
    }

    /// The work of an instance with a program of its own; of another one what its processes do.
    fn instance_work(&self, gpu_instance: u32) -> ([f64; 2], Option<f64>) {
        let (load, instances) = self.slot.loads();
        match instances.of(gpu_instance) {
            Some(program) => {
                let busy = load.worked(program.utilization, program.work);
                ([busy, busy * 0.6], None)
            }
            None => ([0.0; 2], Some(self.instance_busy(gpu_instance))),
        }
    }

    /// Utilisation of an instance now, %.
    fn instance_busy(&self, gpu_instance: u32) -> f64 {
        let (load, instances) = self.slot.loads();
        if let Some(program) = instances.of(gpu_instance) {
            return load.value_now(program.utilization).clamp(0.0, 100.0);
        }
        let on = |on: (u8, u8)| u32::from(on.0) == gpu_instance;
        let processes = self.slot.processes().into_iter();
        let processes = processes.filter(|process| process.instance.is_some_and(on));
        let busy: f64 = processes
            .map(|process| f64::from(process.utilization[0]))
            .sum();
        busy.min(100.0)
    }

    /// Bytes a second in each direction over all its NVLinks when it is busy.
    fn link_bytes(&self) -> f64 {
        f64::from(self.links_up()) * self.one_link_bytes()
    }

    fn one_link_bytes(&self) -> f64 {
        f64::from(self.model().nvlink_speed_mbps()) * 1e6 * LINK_SHARE
    }

    /// KiB that an NVLink, or all of them, has carried in each direction since the GPU came.
    ///
    /// # Errors
    /// The GPU has no NVLinks, or fewer than that.
    pub(super) fn link_traffic(&self, link: Option<u32>) -> Result<u64, Failure> {
        let bytes = match link {
            None if self.nvlink_count() == 0 => return Err(Failure::NotSupported),
            None => self.link_bytes(),
            Some(link) if self.nvlink(link)?.end.is_some() => self.one_link_bytes(),
            Some(_) => 0.0,
        };
        let busy_seconds = self.slot.load().work_now().busy / 100.0;
        Ok(whole(busy_seconds * bytes / 1024.0))
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter of KiB that began at zero"
)]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

impl GpmSample {
    /// A metric of the time between this sample and a later one.
    ///
    /// # Errors
    /// The samples are not of the same thing in this order, or there is no such metric, or it is
    /// not simulated, or not counted for instances.
    pub fn metric(&self, later: &Self, id: u32) -> Result<f64, Failure> {
        let same = self.gpu == later.gpu && self.gpu_instance == later.gpu_instance;
        if !same || later.time <= self.time || id == 0 || id >= METRICS {
            return Err(Failure::InvalidArgument);
        }
        let [busy, memory] = self.utilization(later);
        let for_the_gpu = |value: f64| match self.gpu_instance {
            None => Ok(value),
            Some(_) => Err(Failure::NotSupported),
        };
        let links = |share: f64| {
            if later.link_bytes == 0.0 {
                return Err(Failure::NotSupported);
            }
            for_the_gpu(later.link_bytes * share / 100.0 / MIB)
        };
        Ok(match id {
            1 => busy,
            2 => busy * 0.9,
            3 => busy * 0.5,
            4 => busy * 0.15,
            5 => busy * 0.35,
            6 => busy * 0.01,
            7 => busy * 0.3,
            9 => busy * 0.04,
            10 => memory,
            11 => busy * 0.02,
            12 => busy * 0.2,
            13 => busy * 0.1,
            20 => for_the_gpu(busy * PCIE_TO_HOST / MIB)?,
            21 => for_the_gpu(busy * PCIE_FROM_HOST / MIB)?,
            60 | 61 => links(busy)?,
            _ => return Err(Failure::NotSupported),
        })
    }

    /// Utilisation of SMs and memory on average, %.
    fn utilization(&self, later: &Self) -> [f64; 2] {
        if let Some(busy) = later.now {
            return [busy, busy * 0.6];
        }
        let seconds = std::time::Duration::from_nanos(later.time - self.time).as_secs_f64();
        let average = |at: usize| (later.work[at] - self.work[at]) / seconds;
        [0, 1].map(|at| average(at).clamp(0.0, 100.0))
    }
}

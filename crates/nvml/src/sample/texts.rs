//! The words of a GPU that stay the same.
#![allow(unsafe_code, reason = "calls the library's functions")]

use mizzen_core::driver::DriverError;
use mizzen_core::inventory::DriverVersions;
use mizzen_core::metrics::TextField;
use mizzen_core::sample::Texts;

use crate::device::{Device, call};
use crate::library::{Library, code};
use crate::session::Session;

/// `NVML_INFOROM_OEM`, `NVML_INFOROM_ECC`, `NVML_INFOROM_POWER`
const OEM: u32 = 0;
const ECC: u32 = 1;
const POWER: u32 = 2;

impl Session {
    /// The words of a GPU; what it cannot tell is left out.
    ///
    /// # Errors
    /// The GPU does not answer.
    pub(crate) fn texts(
        &self,
        device: Device,
        versions: &DriverVersions,
    ) -> Result<Texts, DriverError> {
        // What follows is answered from the library's memory, also when the GPU is gone.
        self.library.touch(device)?;
        let mut texts = Texts::new();
        for &field in TextField::ALL {
            let told = match field {
                TextField::DriverVersion => Ok(versions.driver.clone()),
                TextField::NvmlVersion => Ok(versions.nvml.clone()),
                field => self.library.word(device, field),
            };
            match told {
                Ok(text) => texts.push((field, text)),
                Err(DriverError::GpuLost) => return Err(DriverError::GpuLost),
                Err(error) => tracing::debug!(field = field.name(), %error, "left out"),
            }
        }
        Ok(texts)
    }
}

impl Library {
    fn word(&self, device: Device, field: TextField) -> Result<String, DriverError> {
        let inforom = |object| {
            self.text("nvmlDeviceGetInforomVersion", |text, length| {
                call!(self, inforom_version(device.0, object, text, length))
            })
        };
        match field {
            TextField::Brand => {
                let mut brand = 0;
                let code = call!(self, brand(device.0, &raw mut brand));
                self.checked("nvmlDeviceGetBrand", code)?;
                Ok(brand_name(brand).to_owned())
            }
            TextField::Serial => self.text("nvmlDeviceGetSerial", |text, length| {
                call!(self, serial(device.0, text, length))
            }),
            TextField::OemInforomVersion => inforom(OEM),
            TextField::EccInforomVersion => inforom(ECC),
            TextField::PowerInforomVersion => inforom(POWER),
            TextField::InforomImageVersion => self
                .text("nvmlDeviceGetInforomImageVersion", |text, length| {
                    call!(self, inforom_image(device.0, text, length))
                }),
            TextField::VbiosVersion => self.text("nvmlDeviceGetVbiosVersion", |text, length| {
                call!(self, vbios(device.0, text, length))
            }),
            // They are the driver's.
            TextField::DriverVersion | TextField::NvmlVersion => Err(DriverError::NotSupported),
        }
    }
}

/// `nvmlBrandType_t`, in the words of DCGM.
fn brand_name(brand: u32) -> &'static str {
    match brand {
        1 => "Quadro",
        2 => "Tesla",
        3 => "NVS",
        4 => "Grid",
        5 => "GeForce",
        6 => "Titan",
        7 => "NVIDIA Virtual Applications",
        8 => "NVIDIA Virtual PC",
        9 => "NVIDIA Virtual Compute Server",
        10 => "NVIDIA RTX Virtual Workstation",
        11 => "NVIDIA vGaming",
        12 => "Quadro RTX",
        13 => "NVIDIA RTX",
        14 => "NVIDIA",
        15 => "GeForce RTX",
        16 => "Titan RTX",
        _ => "Unknown",
    }
}

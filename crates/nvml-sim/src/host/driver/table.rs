//! The files of NVIDIA's driver: names, SONAMEs and links, and the branches that have them. From
//! the lists of NVIDIA's own packages and of `.manifest` in its installer, of branches 550 to 590.

/// How a library's file and its SONAME are named after its base name, `libcuda.so`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// File `libcuda.so.<version>`, SONAME `libcuda.so.1`, and a link `libcuda.so` for those who
    /// link against it.
    Linked(u32),
    /// File `libnvoptix.so.<version>`, SONAME `libnvoptix.so.1`.
    Numbered(u32),
    /// File and SONAME `libnvidia-tls.so.<version>`.
    Versioned,
    /// File and SONAME `libnvidia-nvvm70.so.4`.
    Fixed(u32),
    /// File `libnvidia-egl-gbm.so.1.1.2`, of a project of its own; SONAME `libnvidia-egl-gbm.so.1`.
    Own(&'static str),
}

/// A library of the driver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Library {
    /// Up to `.so`.
    pub(super) base: &'static str,
    pub(super) name: Name,
    /// The first branch that has it, and the first that has it no more.
    pub(super) branches: (u32, u32),
    /// Only where the processor is an `x86_64`.
    pub(super) x86_only: bool,
}

const EVER: (u32, u32) = (0, u32::MAX);

const fn library(base: &'static str, name: Name) -> Library {
    Library {
        base,
        name,
        branches: EVER,
        x86_only: false,
    }
}

impl Library {
    const fn since(mut self, branch: u32) -> Self {
        self.branches.0 = branch;
        self
    }

    const fn until(mut self, branch: u32) -> Self {
        self.branches.1 = branch;
        self
    }

    const fn x86(mut self) -> Self {
        self.x86_only = true;
        self
    }
}

use Name::{Fixed, Linked, Numbered, Own, Versioned};

/// The libraries of the library directory but NVML itself, which is the simulated one.
pub(super) const LIBRARIES: &[Library] = &[
    library("libcuda.so", Linked(1)),
    library("libcudadebugger.so", Numbered(1)),
    library("libnvidia-ptxjitcompiler.so", Linked(1)),
    library("libnvidia-nvvm.so", Linked(4)),
    library("libnvidia-nvvm70.so", Fixed(4)).since(580),
    library("libnvidia-tileiras.so", Versioned).since(590),
    library("libnvidia-opencl.so", Numbered(1)),
    library("libnvidia-cfg.so", Linked(1)),
    library("libnvidia-allocator.so", Linked(1)),
    library("libnvidia-gpucomp.so", Versioned),
    library("libnvidia-pkcs11.so", Versioned).until(580).x86(),
    library("libnvidia-pkcs11-openssl3.so", Versioned).x86(),
    library("libnvidia-sandboxutils.so", Linked(1)).since(560),
    library("libnvcuvid.so", Linked(1)),
    library("libnvidia-encode.so", Linked(1)),
    library("libnvidia-opticalflow.so", Linked(1)),
    library("libnvidia-fbc.so", Linked(1)),
    library("libnvoptix.so", Numbered(1)),
    library("libnvidia-ngx.so", Numbered(1)),
    library("libnvidia-vksc-core.so", Numbered(1)).x86(),
    library("libGLX_nvidia.so", Numbered(0)),
    library("libEGL_nvidia.so", Numbered(0)),
    library("libGLESv1_CM_nvidia.so", Numbered(1)),
    library("libGLESv2_nvidia.so", Numbered(2)),
    library("libnvidia-eglcore.so", Versioned),
    library("libnvidia-glcore.so", Versioned),
    library("libnvidia-glsi.so", Versioned),
    library("libnvidia-glvkspirv.so", Versioned),
    library("libnvidia-rtcore.so", Versioned),
    library("libnvidia-tls.so", Versioned),
    library("libnvidia-present.so", Versioned).since(560).x86(),
    library("libnvidia-wayland-client.so", Versioned).x86(),
    library("libnvidia-api.so", Fixed(1)).x86(),
    library("libnvidia-egl-gbm.so", Own("1.1.1")).until(570),
    library("libnvidia-egl-gbm.so", Own("1.1.2"))
        .since(570)
        .until(590),
    library("libnvidia-egl-gbm.so", Own("1.1.3")).since(590),
    library("libnvidia-egl-wayland.so", Own("1.1.13")).until(570),
    library("libnvidia-egl-wayland.so", Own("1.1.19"))
        .since(570)
        .until(580),
    library("libnvidia-egl-wayland.so", Own("1.1.20")).since(580),
    library("libnvidia-egl-wayland2.so", Own("1.0.1")).since(590),
    library("libnvidia-egl-xcb.so", Own("1.0.1"))
        .since(570)
        .until(590),
    library("libnvidia-egl-xcb.so", Own("1.0.5")).since(590),
    library("libnvidia-egl-xlib.so", Own("1.0.1"))
        .since(570)
        .until(590),
    library("libnvidia-egl-xlib.so", Own("1.0.5")).since(590),
];

/// NVML, whose file is the simulated library.
pub(super) const NVML: Library = library("libnvidia-ml.so", Linked(1));
/// In `vdpau`, below the library directory.
pub(super) const VDPAU: Library = library("libvdpau_nvidia.so", Numbered(1));

/// The programs but `nvidia-smi`, and the first branch that has them.
pub(super) const PROGRAMS: &[(&str, u32)] = &[
    ("nvidia-debugdump", 0),
    ("nvidia-persistenced", 0),
    ("nvidia-cuda-mps-control", 0),
    ("nvidia-cuda-mps-server", 0),
    ("nvidia-modprobe", 0),
    ("nvidia-imex", 550),
    ("nvidia-imex-ctl", 550),
];

/// The firmware of the GPU's system processor: of Turing and GA100, and of those that came later.
pub(super) const FIRMWARE: &[&str] = &["gsp_tu10x.bin", "gsp_ga10x.bin"];

/// A file that is the same for every GPU, below `/usr/share` or `/etc`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    pub(super) path: &'static str,
    pub(super) text: &'static str,
    /// The first branch that has it.
    pub(super) since: u32,
}

const fn data(path: &'static str, text: &'static str) -> Data {
    Data {
        path,
        text,
        since: 0,
    }
}

/// An entry of EGL's or Vulkan's list of drivers.
macro_rules! driver_list {
    ($library:literal) => {
        concat!(
            "{\n    \"file_format_version\": \"1.0.0\",\n    \"ICD\": {\n        \"library_path\": \"",
            $library,
            "\"\n    }\n}\n"
        )
    };
}

const VULKAN_DRIVER: &str = "{\n    \"file_format_version\": \"1.0.1\",\n    \"ICD\": {\n        \
\"library_path\": \"libGLX_nvidia.so.0\",\n        \"api_version\": \"1.4.312\"\n    }\n}\n";

const VULKAN_LAYER: &str = "{\n    \"file_format_version\": \"1.0.0\",\n    \"layer\": {\n        \
\"name\": \"VK_LAYER_NV_optimus\",\n        \"type\": \"INSTANCE\",\n        \
\"library_path\": \"libGLX_nvidia.so.0\",\n        \"api_version\": \"1.4.312\",\n        \
\"implementation_version\": \"1\",\n        \"description\": \"stand-in\"\n    }\n}\n";

/// What is below `/usr/share` everywhere.
pub(super) const SHARED: &[Data] = &[
    data(
        "glvnd/egl_vendor.d/10_nvidia.json",
        driver_list!("libEGL_nvidia.so.0"),
    ),
    data(
        "egl/egl_external_platform.d/10_nvidia_wayland.json",
        driver_list!("libnvidia-egl-wayland.so.1"),
    ),
    data(
        "egl/egl_external_platform.d/15_nvidia_gbm.json",
        driver_list!("libnvidia-egl-gbm.so.1"),
    ),
    Data {
        path: "egl/egl_external_platform.d/20_nvidia_xcb.json",
        text: driver_list!("libnvidia-egl-xcb.so.1"),
        since: 570,
    },
    Data {
        path: "egl/egl_external_platform.d/20_nvidia_xlib.json",
        text: driver_list!("libnvidia-egl-xlib.so.1"),
        since: 570,
    },
    data("nvidia/nvoptix.bin", "stand-in\n"),
];

/// The driver's entries in Vulkan's lists, below `/usr/share/vulkan` or
/// `/etc/vulkan`.
pub(super) const VULKAN: &[Data] = &[
    data("icd.d/nvidia_icd.json", VULKAN_DRIVER),
    data("implicit_layer.d/nvidia_layers.json", VULKAN_LAYER),
];

/// Below `/etc`.
pub(super) const OPENCL: &[Data] = &[data("OpenCL/vendors/nvidia.icd", "libnvidia-opencl.so.1\n")];

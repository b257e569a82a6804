//! The built-in models' data, one entry for each product.

mod from_ada;
mod mig;
mod to_ampere;

use super::GpuModel;

/// Every built-in model, in the order of the documentation.
pub const MODELS: &[GpuModel] = &[
    to_ampere::T4,
    from_ada::L4,
    to_ampere::A10,
    from_ada::L40S,
    to_ampere::V100_SXM2,
    to_ampere::A30,
    to_ampere::A100_40GB,
    to_ampere::A100_80GB,
    from_ada::H100_80GB,
    from_ada::H100_NVL,
    from_ada::H200_141GB,
    from_ada::B200,
    from_ada::GB200,
    from_ada::RTX_PRO_6000,
];

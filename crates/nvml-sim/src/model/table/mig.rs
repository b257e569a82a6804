//! The GPU instance profiles of each model.
//!
//! Sources: NVIDIA's MIG user guide and published listings of `nvidia-smi mig -lgip`. For H100
//! NVL, GB200 and parts of H200 and B200 no listing of memory and multiprocessors is published:
//! theirs are what is left of the slices in the same proportions.

use crate::model::mig::ProfileKind::{
    FourSlice, FourSliceGfx, OneSlice, OneSliceAllMe, OneSliceGfx, OneSliceNoMe, OneSliceRev1,
    OneSliceRev2, SevenSlice, ThreeSlice, TwoSlice, TwoSliceAllMe, TwoSliceGfx, TwoSliceNoMe,
    TwoSliceRev1,
};
use crate::model::mig::{Engines, GpuProfile, MigTable, ProfileKind};

/// Copy engines, decoders, encoders, JPEG decoders, optical flow accelerators.
const fn engines(counts: [u32; 5]) -> Engines {
    let [copy, decoders, encoders, jpeg, ofa] = counts;
    Engines {
        copy,
        decoders,
        encoders,
        jpeg,
        ofa,
    }
}

const fn profile(
    kind: ProfileKind,
    id: u32,
    name: &'static str,
    memory_mib: u64,
    multiprocessors: u32,
    counts: [u32; 5],
) -> GpuProfile {
    GpuProfile {
        kind,
        id,
        name,
        memory_mib,
        multiprocessors,
        engines: engines(counts),
    }
}

/// Ampere's seven slices.
const fn ampere(names: [&'static str; 7], mib: [u64; 4]) -> [GpuProfile; 7] {
    let [eighth, quarter, half, whole] = mib;
    [
        profile(OneSlice, 19, names[0], eighth, 14, [1, 0, 0, 0, 0]),
        profile(OneSliceRev1, 20, names[1], eighth, 14, [1, 1, 0, 1, 1]),
        profile(OneSliceRev2, 15, names[2], quarter, 14, [1, 1, 0, 0, 0]),
        profile(TwoSlice, 14, names[3], quarter, 28, [2, 1, 0, 0, 0]),
        profile(ThreeSlice, 9, names[4], half, 42, [3, 2, 0, 0, 0]),
        profile(FourSlice, 5, names[5], half, 56, [4, 2, 0, 0, 0]),
        profile(SevenSlice, 0, names[6], whole, 98, [7, 5, 0, 1, 1]),
    ]
}

/// Hopper's and Blackwell's seven slices, with the multiprocessors and the copy engines of each
/// profile but `+me`, which has those of the first.
const fn hopper(
    names: [&'static str; 7],
    mib: [u64; 4],
    sms: [u32; 6],
    copy: [u32; 6],
) -> [GpuProfile; 7] {
    let [eighth, quarter, half, whole] = mib;
    [
        profile(
            OneSlice,
            19,
            names[0],
            eighth,
            sms[0],
            [copy[0], 1, 0, 1, 0],
        ),
        profile(
            OneSliceRev1,
            20,
            names[1],
            eighth,
            sms[0],
            [copy[0], 1, 0, 1, 1],
        ),
        profile(
            OneSliceRev2,
            15,
            names[2],
            quarter,
            sms[1],
            [copy[1], 1, 0, 1, 0],
        ),
        profile(
            TwoSlice,
            14,
            names[3],
            quarter,
            sms[2],
            [copy[2], 2, 0, 2, 0],
        ),
        profile(ThreeSlice, 9, names[4], half, sms[3], [copy[3], 3, 0, 3, 0]),
        profile(FourSlice, 5, names[5], half, sms[4], [copy[4], 4, 0, 4, 0]),
        profile(
            SevenSlice,
            0,
            names[6],
            whole,
            sms[5],
            [copy[5], 7, 0, 7, 1],
        ),
    ]
}

const fn seven(of_gpu: [u32; 5], profiles: &'static [GpuProfile]) -> MigTable {
    MigTable {
        slices: 7,
        memory_slices: 8,
        engines: engines(of_gpu),
        profiles,
    }
}

const fn four(of_gpu: [u32; 5], profiles: &'static [GpuProfile]) -> MigTable {
    MigTable {
        slices: 4,
        memory_slices: 4,
        engines: engines(of_gpu),
        profiles,
    }
}

const AMPERE: [u32; 5] = [7, 5, 0, 1, 1];
const HOPPER: [u32; 5] = [8, 7, 0, 7, 1];
const BLACKWELL: [u32; 5] = [16, 7, 0, 7, 1];
const HOPPER_SMS: [u32; 6] = [16, 26, 32, 60, 64, 132];
const HOPPER_COPY: [u32; 6] = [1, 1, 2, 3, 4, 8];
const BLACKWELL_COPY: [u32; 6] = [2, 2, 3, 6, 8, 16];

/// NVIDIA A100-SXM4-40GB.
pub(super) static A100_40GB: MigTable = seven(
    AMPERE,
    &ampere(
        [
            "1g.5gb",
            "1g.5gb+me",
            "1g.10gb",
            "2g.10gb",
            "3g.20gb",
            "4g.20gb",
            "7g.40gb",
        ],
        [4864, 9856, 20_096, 40_448],
    ),
);

/// NVIDIA A100-SXM4-80GB.
pub(super) static A100_80GB: MigTable = seven(
    AMPERE,
    &ampere(
        [
            "1g.10gb",
            "1g.10gb+me",
            "1g.20gb",
            "2g.20gb",
            "3g.40gb",
            "4g.40gb",
            "7g.80gb",
        ],
        [9728, 19_968, 40_192, 80_896],
    ),
);

/// NVIDIA H100 80GB HBM3.
pub(super) static H100_80GB: MigTable = seven(
    HOPPER,
    &hopper(
        [
            "1g.10gb",
            "1g.10gb+me",
            "1g.20gb",
            "2g.20gb",
            "3g.40gb",
            "4g.40gb",
            "7g.80gb",
        ],
        [9984, 20_096, 40_448, 81_152],
        HOPPER_SMS,
        HOPPER_COPY,
    ),
);

/// NVIDIA H100 NVL.
pub(super) static H100_NVL: MigTable = seven(
    HOPPER,
    &hopper(
        [
            "1g.12gb",
            "1g.12gb+me",
            "1g.24gb",
            "2g.24gb",
            "3g.47gb",
            "4g.47gb",
            "7g.94gb",
        ],
        [11_008, 22_528, 46_336, 95_232],
        HOPPER_SMS,
        HOPPER_COPY,
    ),
);

/// NVIDIA H200.
pub(super) static H200_141GB: MigTable = seven(
    HOPPER,
    &hopper(
        [
            "1g.18gb",
            "1g.18gb+me",
            "1g.35gb",
            "2g.35gb",
            "3g.71gb",
            "4g.71gb",
            "7g.141gb",
        ],
        [16_384, 33_280, 67_072, 143_360],
        HOPPER_SMS,
        HOPPER_COPY,
    ),
);

/// NVIDIA B200.
pub(super) static B200: MigTable = seven(
    BLACKWELL,
    &hopper(
        [
            "1g.23gb",
            "1g.23gb+me",
            "1g.45gb",
            "2g.45gb",
            "3g.90gb",
            "4g.90gb",
            "7g.180gb",
        ],
        [22_144, 45_056, 90_624, 182_272],
        [18, 30, 36, 70, 72, 148],
        BLACKWELL_COPY,
    ),
);

/// NVIDIA GB200.
pub(super) static GB200: MigTable = seven(
    BLACKWELL,
    &hopper(
        [
            "1g.23gb",
            "1g.23gb+me",
            "1g.47gb",
            "2g.47gb",
            "3g.93gb",
            "4g.93gb",
            "7g.186gb",
        ],
        [22_656, 46_592, 93_696, 188_416],
        [18, 30, 36, 70, 72, 152],
        BLACKWELL_COPY,
    ),
);

/// NVIDIA A30.
pub(super) static A30: MigTable = four(
    [4, 4, 0, 1, 1],
    &[
        profile(OneSlice, 14, "1g.6gb", 5952, 14, [1, 0, 0, 0, 0]),
        profile(OneSliceRev1, 21, "1g.6gb+me", 5952, 14, [1, 1, 0, 1, 1]),
        profile(TwoSlice, 5, "2g.12gb", 12_032, 28, [2, 2, 0, 0, 0]),
        profile(TwoSliceRev1, 6, "2g.12gb+me", 12_032, 28, [2, 2, 0, 1, 1]),
        profile(FourSlice, 0, "4g.24gb", 24_192, 56, [4, 4, 0, 1, 1]),
    ],
);

/// NVIDIA RTX PRO 6000 Blackwell Server Edition.
pub(super) static RTX_PRO_6000: MigTable = four(
    [4, 4, 4, 4, 1],
    &[
        profile(OneSlice, 14, "1g.24gb", 24_192, 46, [1, 1, 1, 1, 0]),
        profile(OneSliceRev1, 21, "1g.24gb+me", 24_192, 46, [1, 1, 1, 1, 1]),
        profile(OneSliceGfx, 47, "1g.24gb+gfx", 24_192, 46, [1, 1, 1, 1, 0]),
        profile(
            OneSliceAllMe,
            65,
            "1g.24gb+me.all",
            24_192,
            46,
            [1, 4, 4, 4, 1],
        ),
        profile(OneSliceNoMe, 67, "1g.24gb-me", 24_192, 46, [1, 0, 0, 0, 0]),
        profile(TwoSlice, 5, "2g.48gb", 48_512, 94, [2, 2, 2, 2, 0]),
        profile(TwoSliceGfx, 35, "2g.48gb+gfx", 48_512, 94, [2, 2, 2, 2, 0]),
        profile(
            TwoSliceAllMe,
            64,
            "2g.48gb+me.all",
            48_512,
            94,
            [2, 4, 4, 4, 1],
        ),
        profile(TwoSliceNoMe, 66, "2g.48gb-me", 48_512, 94, [2, 0, 0, 0, 0]),
        profile(FourSlice, 0, "4g.96gb", 97_280, 188, [4, 4, 4, 4, 1]),
        profile(
            FourSliceGfx,
            32,
            "4g.96gb+gfx",
            97_280,
            188,
            [4, 4, 4, 4, 1],
        ),
    ],
);

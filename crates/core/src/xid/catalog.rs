//! NVIDIA's catalogue of Xid errors, in short.
//!
//! Numbers, the driver's names, causes and first actions are facts of NVIDIA's public
//! documentation (<https://docs.nvidia.com/deploy/xid-errors/>, its catalogue and the older
//! listing); the words are ours. Numbers that NVIDIA lists as unused or reserved are not here.

use super::info::{XidAction, XidCause, XidInfo};

macro_rules! catalog {
    ($($number:literal $mnemonic:ident $cause:ident $action:ident $title:literal:
        $meaning:literal;)*) => {
        /// All Xids that NVIDIA documents with a meaning, in ascending order.
        pub const CATALOG: &[XidInfo] = &[
            $(XidInfo {
                number: $number,
                mnemonic: stringify!($mnemonic),
                title: $title,
                meaning: $meaning,
                cause: XidCause::$cause,
                action: XidAction::$action,
            },)*
        ];
    };
}

catalog! {
    1 ROBUST_CHANNEL_FIFO_ERROR_FIFO_METHOD Driver ContactSupport
        "invalid push buffer":
        "the stream of commands for the GPU was invalid, or damaged on its way to it";
    2 ROBUST_CHANNEL_FIFO_ERROR_SW_METHOD Driver ContactSupport
        "invalid push buffer":
        "the stream of commands for the GPU was invalid, or damaged on its way to it";
    3 ROBUST_CHANNEL_FIFO_ERROR_UNK_METHOD Driver ContactSupport
        "invalid push buffer":
        "the stream of commands for the GPU was invalid, or damaged on its way to it";
    4 ROBUST_CHANNEL_FIFO_ERROR_CHANNEL_BUSY Driver ContactSupport
        "invalid push buffer":
        "the stream of commands for the GPU was invalid, or damaged on its way to it";
    6 ROBUST_CHANNEL_FIFO_ERROR_PARSE_ERR Driver ContactSupport
        "invalid push buffer":
        "the stream of commands for the GPU was invalid, or damaged on its way to it";
    7 ROBUST_CHANNEL_FIFO_ERROR_PTE_ERR Driver ContactSupport
        "invalid push buffer address":
        "the GPU was pointed to a command stream at an address that is not valid";
    8 ROBUST_CHANNEL_FIFO_ERROR_IDLE_TIMEOUT Application RestartApplication
        "GPU stopped processing": "a channel made no progress for too long and was torn down";
    9 ROBUST_CHANNEL_GR_ERROR_INSTANCE Driver ContactSupport
        "GPU programmed wrongly": "the driver programmed the GPU in a way that it does not take";
    11 ROBUST_CHANNEL_GR_ERROR_MISSING_HW Application RestartApplication
        "invalid push buffer":
        "the stream of commands for the GPU was invalid, or damaged on its way to it";
    12 ROBUST_CHANNEL_GR_ERROR_SW_METHOD Driver ContactSupport
        "exception handled wrongly": "the driver failed while it handled an exception of the GPU";
    13 ROBUST_CHANNEL_GR_EXCEPTION Application RestartApplication
        "graphics engine exception":
        "the program ran an illegal instruction or went beyond the memory it owns";
    16 ROBUST_CHANNEL_VBLANK_CALLBACK_TIMEOUT Driver ContactSupport
        "display engine hung": "the display engine did not answer";
    18 ROBUST_CHANNEL_BUS_MASTER_TIMEOUT_ERROR Driver ContactSupport
        "bus mastering disabled":
        "the GPU may not start transfers over PCIe: its configuration space was changed";
    19 ROBUST_CHANNEL_DISP_MISSED_NOTIFIER Driver ContactSupport
        "display engine error": "the display engine did not report back";
    20 ROBUST_CHANNEL_MPEG_ERROR_SW_METHOD Application ContactSupport
        "invalid MPEG push buffer": "the commands for the MPEG decoder were invalid or damaged";
    21 ROBUST_CHANNEL_ME_ERROR_SW_METHOD Application ContactSupport
        "invalid motion estimation push buffer":
        "the commands for the motion estimation engine were invalid or damaged";
    22 ROBUST_CHANNEL_VP_ERROR_SW_METHOD Application ContactSupport
        "invalid video push buffer": "the commands for the video processor were invalid or damaged";
    24 ROBUST_CHANNEL_GR_SEMAPHORE_TIMEOUT Application ContactSupport
        "semaphore timeout": "the GPU waited too long for a semaphore";
    25 ROBUST_CHANNEL_GR_ILLEGAL_NOTIFY Application RestartApplication
        "illegal push buffer": "the commands asked for a notification that is not allowed";
    26 ROBUST_CHANNEL_FIFO_ERROR_FBISTATE_TIMEOUT Driver ContactSupport
        "framebuffer timeout": "the interface to the GPU memory did not answer in time";
    27 ROBUST_CHANNEL_VP_ERROR Driver ContactSupport
        "video processor exception": "the video processor stopped with an exception";
    28 ROBUST_CHANNEL_VP2_ERROR Driver ContactSupport
        "video processor exception": "the video processor stopped with an exception";
    29 ROBUST_CHANNEL_BSP_ERROR Driver ContactSupport
        "video processor exception": "the video processor stopped with an exception";
    30 ROBUST_CHANNEL_BAD_ADDR_ACCESS Driver ContactSupport
        "semaphore access error": "the GPU could not reach a semaphore";
    31 ROBUST_CHANNEL_FIFO_ERROR_MMU_ERR_FLT Application RestartApplication
        "GPU memory page fault": "the program accessed an address that is not mapped for it";
    32 ROBUST_CHANNEL_PBDMA_ERROR Machine RestartApplication
        "push buffer fetch error":
        "the unit that fetches commands over PCIe found them damaged, often by a poor signal";
    33 ROBUST_CHANNEL_SEC_ERROR Driver ContactSupport
        "security engine error": "a micro-controller of the GPU failed";
    34 ROBUST_CHANNEL_MSVLD_ERROR Driver ContactSupport
        "video processor exception": "the video processor stopped with an exception";
    35 ROBUST_CHANNEL_MSPDEC_ERROR Driver ContactSupport
        "video processor exception": "the video processor stopped with an exception";
    36 ROBUST_CHANNEL_MSPPP_ERROR Driver ContactSupport
        "video processor exception": "the video processor stopped with an exception";
    37 ROBUST_CHANNEL_FECS_ERR_UNIMP_FIRMWARE_METHOD Driver Nothing
        "unknown firmware method":
        "the firmware of the graphics engine was asked for something that it does not know";
    38 ROBUST_CHANNEL_FECS_ERR_WATCHDOG_TIMEOUT Driver Nothing
        "firmware watchdog":
        "the firmware of the graphics engine did not answer its watchdog in time";
    39 ROBUST_CHANNEL_CE0_ERROR Application RestartApplication
        "copy engine 0 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    40 ROBUST_CHANNEL_CE1_ERROR Application RestartApplication
        "copy engine 1 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    41 ROBUST_CHANNEL_CE2_ERROR Application RestartApplication
        "copy engine 2 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    42 ROBUST_CHANNEL_VIC_ERROR Driver ContactSupport
        "video image compositor error": "the video image compositor stopped with an exception";
    43 ROBUST_CHANNEL_RESETCHANNEL_VERIF_ERROR Application Nothing
        "channel reset by the driver": "the program made a fault and was ended; the GPU is well";
    44 ROBUST_CHANNEL_GR_FAULT_DURING_CTXSW Driver Nothing
        "fault during context switch":
        "the graphics engine faulted while it changed from one program to another";
    45 ROBUST_CHANNEL_PREEMPTIVE_REMOVAL Event FollowOtherXid
        "channels removed":
        "the programs on the GPU were ended after an earlier error, a kill or a reset";
    46 ROBUST_CHANNEL_GPU_TIMEOUT_ERROR Hardware ResetGpu
        "GPU stopped processing": "the GPU as a whole made no progress";
    47 ROBUST_CHANNEL_NVENC0_ERROR Driver ContactSupport
        "video encoder 0 error": "a video encoder stopped with an exception";
    48 ROBUST_CHANNEL_GPU_ECC_DBE Hardware ResetGpu
        "double-bit ECC error": "the GPU memory holds an error that could not be corrected";
    54 SILENT_RUNNING_PWR_REDUCED_CLOCKING Machine CheckMachine
        "auxiliary power missing": "the auxiliary power cable of the board is not connected";
    56 DISPLAY_CHANNEL_EXCEPTION Hardware ContactSupport
        "display engine error": "the display engine stopped with an exception";
    57 FB_LINK_TRAINING_FAILURE_ERROR Hardware ContactSupport
        "memory link training failed": "the interface to the GPU memory could not be set up";
    58 FB_MEMORY_ERROR Hardware ContactSupport
        "unstable memory interface": "the interface to the GPU memory is not stable";
    59 PMU_ERROR Driver ContactSupport
        "power controller error": "the micro-controller for power management failed";
    60 ROBUST_CHANNEL_SEC2_ERROR Application RestartApplication
        "security engine exception":
        "the security engine, which also serves video, stopped with an exception";
    61 PMU_BREAKPOINT Driver ContactSupport
        "power controller breakpoint":
        "the micro-controller for power management stopped at a breakpoint";
    62 PMU_HALT_ERROR Hardware ResetGpu
        "power controller halted": "the micro-controller for power management halted";
    63 INFOROM_DRAM_RETIREMENT_EVENT Event Nothing
        "memory remapping recorded":
        "a bad row or page of GPU memory was marked; it is replaced at the next reset";
    64 INFOROM_DRAM_RETIREMENT_FAILURE Hardware ResetGpu
        "memory remapping failed":
        "a bad row or page of GPU memory could not be marked for replacement";
    65 ROBUST_CHANNEL_NVENC1_ERROR Driver ContactSupport
        "video encoder 1 error": "a video encoder stopped with an exception";
    66 ROBUST_CHANNEL_FECS_ERR_REG_ACCESS_VIOLATION Driver Nothing
        "illegal register access": "a register was accessed that may not be";
    67 ROBUST_CHANNEL_FECS_ERR_VERIF_VIOLATION Driver Nothing
        "illegal access by the driver": "the firmware of the graphics engine refused an access";
    68 ROBUST_CHANNEL_NVDEC0_ERROR Application RestartApplication
        "video decoder 0 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    69 ROBUST_CHANNEL_GR_CLASS_ERROR Application RestartApplication
        "graphics engine class error":
        "the program sent commands that the graphics engine does not allow";
    70 ROBUST_CHANNEL_CE3_ERROR Application RestartApplication
        "copy engine 3 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    71 ROBUST_CHANNEL_CE4_ERROR Application RestartApplication
        "copy engine 4 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    72 ROBUST_CHANNEL_CE5_ERROR Application RestartApplication
        "copy engine 5 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    73 ROBUST_CHANNEL_NVENC2_ERROR Driver ContactSupport
        "video encoder 2 error": "a video encoder stopped with an exception";
    74 NVLINK_ERROR Link CheckLinks
        "NVLink error": "the link to another GPU or a switch failed, at this end or at the other";
    75 ROBUST_CHANNEL_CE6_ERROR Application RestartApplication
        "copy engine 6 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    76 ROBUST_CHANNEL_CE7_ERROR Application RestartApplication
        "copy engine 7 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    77 ROBUST_CHANNEL_CE8_ERROR Application RestartApplication
        "copy engine 8 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    78 VGPU_START_ERROR Driver UpdateSoftware
        "vGPU did not start":
        "a virtual GPU could not be started; the drivers of host and guest may not fit";
    79 ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS Machine RebootNode
        "GPU has fallen off the bus": "the driver cannot reach the GPU over PCIe any more";
    80 PBDMA_PUSHBUFFER_CRC_MISMATCH Machine RestartApplication
        "damaged data sent to the GPU":
        "the commands that arrived at the GPU were not those that were sent";
    81 ROBUST_CHANNEL_VGA_SUBSYSTEM_ERROR Hardware ContactSupport
        "VGA subsystem error": "the VGA part of the GPU failed";
    82 ROBUST_CHANNEL_NVJPG0_ERROR Application RestartApplication
        "JPEG decoder 0 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    83 ROBUST_CHANNEL_NVDEC1_ERROR Application RestartApplication
        "video decoder 1 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    84 ROBUST_CHANNEL_NVDEC2_ERROR Application RestartApplication
        "video decoder 2 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    85 ROBUST_CHANNEL_CE9_ERROR Application RestartApplication
        "copy engine 9 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    86 ROBUST_CHANNEL_OFA0_ERROR Application RestartApplication
        "optical flow engine 0 error":
        "the optical flow engine stopped with an exception, and the program that used it was ended";
    88 ROBUST_CHANNEL_NVDEC3_ERROR Application RestartApplication
        "video decoder 3 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    89 ROBUST_CHANNEL_NVDEC4_ERROR Application RestartApplication
        "video decoder 4 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    92 EXCESSIVE_SBE_INTERRUPTS Hardware Nothing
        "many single-bit ECC errors": "the GPU memory has more corrected errors than is usual";
    93 INFOROM_ERASE_LIMIT_EXCEEDED Hardware Nothing
        "InfoROM worn": "the store for the board's own data was erased more often than planned";
    94 ROBUST_CHANNEL_CONTAINED_ERROR Hardware RestartApplication
        "contained memory error":
        "an uncorrectable memory error hit one program, which was ended, and no other";
    95 ROBUST_CHANNEL_UNCONTAINED_ERROR Hardware ResetGpu
        "uncontained memory error":
        "an uncorrectable memory error may have hit every program on the GPU";
    96 ROBUST_CHANNEL_NVDEC5_ERROR Application RestartApplication
        "video decoder 5 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    97 ROBUST_CHANNEL_NVDEC6_ERROR Application RestartApplication
        "video decoder 6 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    98 ROBUST_CHANNEL_NVDEC7_ERROR Application RestartApplication
        "video decoder 7 error":
        "a video decoder stopped with an exception, and the program that used it was ended";
    99 ROBUST_CHANNEL_NVJPG1_ERROR Application RestartApplication
        "JPEG decoder 1 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    100 ROBUST_CHANNEL_NVJPG2_ERROR Application RestartApplication
        "JPEG decoder 2 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    101 ROBUST_CHANNEL_NVJPG3_ERROR Application RestartApplication
        "JPEG decoder 3 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    102 ROBUST_CHANNEL_NVJPG4_ERROR Application RestartApplication
        "JPEG decoder 4 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    103 ROBUST_CHANNEL_NVJPG5_ERROR Application RestartApplication
        "JPEG decoder 5 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    104 ROBUST_CHANNEL_NVJPG6_ERROR Application RestartApplication
        "JPEG decoder 6 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    105 ROBUST_CHANNEL_NVJPG7_ERROR Application RestartApplication
        "JPEG decoder 7 error":
        "a JPEG decoder stopped with an exception, and the program that used it was ended";
    106 SMBPBI_TEST_MESSAGE Event Nothing
        "test message": "a test message of the out-of-band management interface";
    107 SMBPBI_TEST_MESSAGE_SILENT Event Nothing
        "silent test message": "a test message of the out-of-band management interface";
    108 NVLINK_REMOTE_TRANSLATION_ERROR Link Nothing
        "remote address translation error":
        "another GPU accessed an address over NVLink that this one could not translate";
    109 ROBUST_CHANNEL_CTXSW_TIMEOUT_ERROR Application ResetGpu
        "context switch timeout": "the GPU could not change from one program to another in time";
    110 SEC_FAULT_ERROR Hardware ResetGpu
        "security fault": "the GPU detected a breach of its security rules and shut itself off";
    111 BUNDLE_ERROR_EVENT Driver ContactSupport
        "display bundle error": "the display engine took a wrong bundle of commands";
    112 DISP_SUPERVISOR_ERROR Driver ContactSupport
        "display supervisor error": "the driver failed to change the display mode";
    113 DP_LT_FAILURE Machine ContactSupport
        "DisplayPort training failed": "the link to a monitor could not be set up";
    114 HEAD_RG_UNDERFLOW Driver ContactSupport
        "display pipeline underflow": "the display engine did not get its data in time";
    115 CORE_CHANNEL_REGS Driver ContactSupport
        "display core channel error": "a display channel was programmed wrongly";
    116 WINDOW_CHANNEL_REGS Driver ContactSupport
        "display window channel error": "a display channel was programmed wrongly";
    117 CURSOR_CHANNEL_REGS Driver ContactSupport
        "display cursor channel error": "a display channel was programmed wrongly";
    118 HEAD_REGS Driver ContactSupport
        "display pixel pipeline error": "the pixel pipeline was programmed wrongly";
    119 GSP_RPC_TIMEOUT Driver ResetGpu
        "GSP does not answer":
        "the GPU's system processor, which runs the driver's firmware, did not answer in time";
    120 GSP_ERROR Driver ResetGpu
        "GSP error": "the GPU's system processor, which runs the driver's firmware, failed";
    121 C2C_ERROR Link Nothing
        "C2C link error":
        "the chip-to-chip link between CPU and GPU had an error that it corrected";
    122 SPI_PMU_RPC_READ_FAIL Hardware ContactSupport
        "board flash cannot be read": "the flash memory of the board does not work as it should";
    123 SPI_PMU_RPC_WRITE_FAIL Hardware ContactSupport
        "board flash cannot be written": "the flash memory of the board does not work as it should";
    124 SPI_PMU_RPC_ERASE_FAIL Hardware ContactSupport
        "board flash cannot be erased": "the flash memory of the board does not work as it should";
    125 INFOROM_FS_ERROR Hardware ContactSupport
        "InfoROM file system error": "the store for the board's own data is damaged";
    126 ROBUST_CHANNEL_CE10_ERROR Application RestartApplication
        "copy engine 10 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    127 ROBUST_CHANNEL_CE11_ERROR Application RestartApplication
        "copy engine 11 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    128 ROBUST_CHANNEL_CE12_ERROR Application RestartApplication
        "copy engine 12 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    129 ROBUST_CHANNEL_CE13_ERROR Application RestartApplication
        "copy engine 13 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    130 ROBUST_CHANNEL_CE14_ERROR Application RestartApplication
        "copy engine 14 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    131 ROBUST_CHANNEL_CE15_ERROR Application RestartApplication
        "copy engine 15 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    132 ROBUST_CHANNEL_CE16_ERROR Application RestartApplication
        "copy engine 16 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    133 ROBUST_CHANNEL_CE17_ERROR Application RestartApplication
        "copy engine 17 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    134 ROBUST_CHANNEL_CE18_ERROR Application RestartApplication
        "copy engine 18 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    135 ROBUST_CHANNEL_CE19_ERROR Application RestartApplication
        "copy engine 19 error":
        "a copy engine stopped with an exception, and the program that used it was ended";
    136 ALI_TRAINING_FAIL Link ResetGpu
        "NVLink training failed": "a link to another GPU or a switch could not be set up";
    137 NVLINK_PRIV_ERR Link Nothing
        "NVLink privilege error":
        "an access over NVLink was refused, mostly for a fault of the program at the other end";
    138 ROBUST_CHANNEL_DLA_ERROR Application ContactSupport
        "deep learning accelerator error":
        "the deep learning accelerator stopped with an exception";
    139 ROBUST_CHANNEL_OFA1_ERROR Application RestartApplication
        "optical flow engine 1 error":
        "the optical flow engine stopped with an exception, and the program that used it was ended";
    140 UNRECOVERABLE_ECC_ERROR_ESCAPE Hardware ResetGpu
        "unrecovered ECC error":
        "an uncorrectable memory error reached the driver past its handling";
    141 ROBUST_CHANNEL_FAST_PATH_ERROR Driver Nothing
        "CUDA fast path error": "the fast way from CUDA to the GPU failed";
    142 ROBUST_CHANNEL_NVENC3_ERROR Driver ContactSupport
        "video encoder 3 error": "a video encoder stopped with an exception";
    143 GPU_INIT_ERROR Hardware ResetGpu
        "GPU initialization error": "the GPU could not be initialised";
    144 NVLINK_SAW_ERROR Link CheckLinks
        "NVLink 5 SAW error": "the SAW unit of an NVLink of the fifth generation reported an error";
    145 NVLINK_RLW_ERROR Link CheckLinks
        "NVLink 5 RLW error": "the RLW unit of an NVLink of the fifth generation reported an error";
    146 NVLINK_TLW_ERROR Link CheckLinks
        "NVLink 5 TLW error": "the TLW unit of an NVLink of the fifth generation reported an error";
    147 NVLINK_TREX_ERROR Link CheckLinks
        "NVLink 5 TREX error":
        "the TREX unit of an NVLink of the fifth generation reported an error";
    148 NVLINK_NVLPW_CTRL_ERROR Link CheckLinks
        "NVLink 5 NVLPW error":
        "the NVLPW unit of an NVLink of the fifth generation reported an error";
    149 NVLINK_NETIR_ERROR Link CheckLinks
        "NVLink 5 NETIR error":
        "the NETIR unit of an NVLink of the fifth generation reported an error";
    150 NVLINK_MSE_ERROR Link CheckLinks
        "NVLink 5 MSE error": "the MSE unit of an NVLink of the fifth generation reported an error";
    151 ROBUST_CHANNEL_KEY_ROTATION_ERROR Driver RestartVirtualMachine
        "key rotation error": "the keys of confidential computing could not be renewed";
    152 ROBUST_CHANNEL_DLA_SMMU_ERROR Driver Nothing
        "DLA address translation error":
        "the deep learning accelerator used an address that could not be translated";
    153 ROBUST_CHANNEL_DLA_TIMEOUT Driver Nothing
        "DLA timeout": "the deep learning accelerator did not answer in time";
    154 GPU_RECOVERY_ACTION_CHANGED Event FollowRecoveryAction
        "recovery action changed":
        "the driver has changed what it asks to be done to the GPU after another Xid";
    155 NVLINK_SW_DEFINED_ERROR Link ResetGpu
        "NVLink went down": "NVLink of the fifth generation was shut down by its software";
    156 RESOURCE_RETIREMENT_EVENT Event ResetGpu
        "resource retired": "a part of the GPU was marked as bad; it is left out after a reset";
    157 RESOURCE_RETIREMENT_FAILURE Hardware Nothing
        "resource could not be retired": "a bad part of the GPU could not be marked";
    158 GPU_FATAL_TIMEOUT Hardware ResetGpu
        "fatal timeout": "the GPU did not finish something that it cannot go on without";
    159 ROBUST_CHANNEL_CHI_NON_DATA_ERROR Link ResetGpu
        "coherent interface error":
        "the coherent link to the CPU failed; with unified memory in use, a reset is needed";
    160 CHANNEL_RETIREMENT_EVENT Event Nothing
        "memory channel retired": "a channel to the GPU memory was marked as bad";
    161 CHANNEL_RETIREMENT_FAILURE Hardware Nothing
        "memory channel could not be retired":
        "a bad channel to the GPU memory could not be marked";
    162 PSHC_REENGAGED Event Nothing
        "power smoothing back": "the circuit that smooths the power draw works again";
    163 PSHC_DISENGAGED Event Nothing
        "power smoothing off": "the circuit that smooths the power draw was switched off";
    164 PSHC_LOW_LIFETIME Hardware ContactSupport
        "power smoothing near its end":
        "the circuit that smooths the power draw is nearly worn out";
    165 PSHC_ZERO_LIFETIME Hardware ContactSupport
        "power smoothing worn out": "the circuit that smooths the power draw is worn out";
    166 NVLINK_SECURE_CRYPTO_ERR Link FollowRecoveryAction
        "unencrypted NVLink traffic":
        "traffic of confidential computing came before the link was set up to encrypt it";
    167 PCIE_FATAL_TIMEOUT Machine FollowRecoveryAction
        "fatal PCIe timeout": "a transfer over PCIe did not finish in time";
    168 REDUCED_GPU_MEMORY_CAPACITY Hardware FollowRecoveryAction
        "GPU memory reduced": "errors in the protected part of GPU memory leave less of it to use";
    169 SEC2_HALT_ERROR Hardware FollowRecoveryAction
        "security controller halted": "the micro-controller of the security engine halted";
    170 NVLINK_SECURE_OTHER Link FollowRecoveryAction
        "secure NVLink interrupt": "NVLink reported an interrupt in confidential computing";
    171 UNCORRECTABLE_DRAM_ERROR Hardware ResetGpu
        "uncorrectable DRAM error": "the error of an Xid 48 lies in the GPU's DRAM";
    172 UNCORRECTABLE_SRAM_ERROR Hardware ResetGpu
        "uncorrectable SRAM error": "the error of an Xid 48 lies in the GPU's SRAM";
}

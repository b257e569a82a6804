//! What a process that has started no longer needs in memory.

/// Gives back the pages of the program's own code and constants that are mapped now.
///
/// Reading flags, opening NVML and the first device list run through most of a program that then
/// waits for months in a small part of it; the kernel maps sixteen pages around each one touched.
/// What is needed again comes back from the page cache, a microsecond a page. Meant to be called
/// once: some seconds after the start, or when a command has read its arguments. Breakpoints that a debugger has set until then are lost.
#[allow(
    unsafe_code,
    reason = "the linker's symbols and madvise(2) have no safe form"
)]
pub fn release_start_code() {
    unsafe extern "C" {
        /// Where the linker put the program's first byte (`ld(1)`).
        safe static __ehdr_start: u8;
        /// Where the program's code ends (`end(3)`).
        safe static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = &raw const __ehdr_start;
    let length = (&raw const etext).addr().saturating_sub(start.addr()) / PAGE * PAGE;
    // SAFETY: Between the two symbols lie the headers, constants and code, which are mapped
    // privately from the program's file and never written, for position-independent code has no
    // relocations there: whatever is touched again is read from the file again, and is the same.
    let released = unsafe {
        rustix::mm::madvise(
            start.cast_mut().cast(),
            length,
            rustix::mm::Advice::LinuxDontNeed,
        )
    };
    if let Err(error) = released {
        tracing::debug!(%error, "the start's code stays resident");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_goes_on_after_its_code_was_given_back() {
        let before: u64 = (1..=20).product();
        release_start_code();
        assert_eq!((1..=20).product::<u64>(), before);
        assert!("GPU-x".parse::<mizzen_core::gpu::GpuUuid>().is_err());
    }
}

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

/// Has all threads take memory from one heap.
///
/// The C library gives a thread that finds the heap busy another one, up to eight for each
/// processor, and hardly ever gives any of it back. Threads of a process that waits most of the time
/// are hardly ever in each other's way. Meant to be called before there are threads.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "mallopt(3) has no safe form")]
pub fn keep_one_heap() {
    unsafe extern "C" {
        /// `malloc.h`; answers 1 if the parameter was set.
        safe fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
    }
    /// `M_ARENA_MAX` of `malloc.h`.
    const ARENA_MAX: std::ffi::c_int = -8;
    if mallopt(ARENA_MAX, 1) != 1 {
        tracing::debug!("the C library keeps as many heaps as it likes");
    }
}

/// Other C libraries have one heap.
#[cfg(not(target_env = "gnu"))]
pub fn keep_one_heap() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mappings of the size and alignment of the C library's further heaps (`HEAP_MAX_SIZE`).
    #[cfg(target_env = "gnu")]
    fn further_heaps() -> usize {
        const LARGEST: usize = 64 << 20;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let starts = maps.lines().filter_map(|line| {
            let (start, rest) = line.split_once('-')?;
            let is_nameless = rest.split_whitespace().count() == 5;
            (is_nameless && rest.contains(" rw-p ")).then_some(start)
        });
        let starts = starts.map(|start| usize::from_str_radix(start, 16).unwrap());
        starts.filter(|start| start % LARGEST == 0).count()
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn threads_share_one_heap() {
        keep_one_heap();
        let before = further_heaps();
        let threads: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| vec![1_u8; 1000]))
            .collect();
        let kept: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(kept.len(), 8);
        assert_eq!(further_heaps(), before);
    }

    #[test]
    fn a_program_goes_on_after_its_code_was_given_back() {
        let before: u64 = (1..=20).product();
        release_start_code();
        assert_eq!((1..=20).product::<u64>(), before);
        assert!("GPU-x".parse::<mizzen_core::gpu::GpuUuid>().is_err());
    }
}

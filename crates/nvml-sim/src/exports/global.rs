//! The one session of the process, and the handles that stand for its parts.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_uint};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlEventSet_t, nvmlReturn_t};

use super::answer;
use super::mig::mig_handle;
use super::pointer::{put, required, text};
use crate::engine::{Device, EventSet, Failure, MigDevice, Session, SessionError};
use crate::environment::Place;
use crate::identity::Uuid;

/// The initialised library.
struct Library {
    users: u32,
    /// Tells handles of this session from those of earlier ones.
    epoch: u32,
    session: Arc<Session>,
    event_sets: Mutex<EventSets>,
}

#[derive(Default)]
struct EventSets {
    next: u32,
    by_number: BTreeMap<u32, Arc<EventSet>>,
}

static LIBRARY: RwLock<Option<Library>> = RwLock::new(None);
/// Number of sessions that this process has had.
static EPOCH: Mutex<u32> = Mutex::new(0);

/// Kinds of handles, in the highest bits: no handle is an address, and none is ever followed.
const DEVICE: u64 = 0x4D5A_0001;
const EVENT_SET: u64 = 0x4D5A_0002;

pub(super) fn encode(kind: u64, epoch: u32, number: u32) -> usize {
    let low = u64::from(epoch & 0xffff) << 16 | u64::from(number & 0xffff);
    usize::try_from(kind << 32 | low).unwrap_or(0)
}

/// The number in a handle of this kind and session.
pub(super) fn decode(kind: u64, epoch: u32, handle: usize) -> Result<u32, Failure> {
    let handle = handle as u64;
    let number = u32::try_from(handle & 0xffff).unwrap_or(0);
    if handle == encode(kind, epoch, number) as u64 {
        Ok(number)
    } else {
        Err(Failure::InvalidArgument)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at the library, if it is initialised.
fn with_library<T>(look: impl FnOnce(&Library) -> Result<T, Failure>) -> Result<T, Failure> {
    let library = LIBRARY.read().unwrap_or_else(PoisonError::into_inner);
    look(library.as_ref().ok_or(Failure::Uninitialized)?)
}

/// The session, and the epoch of its handles. The lock is not held while it is used: a call that
/// hangs must not keep others from working.
pub(super) fn session() -> Result<(Arc<Session>, u32), Failure> {
    with_library(|library| Ok((Arc::clone(&library.session), library.epoch)))
}

/// Asks a device.
pub(super) fn with_device<T>(
    handle: nvmlDevice_t,
    ask: impl FnOnce(&Device<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (session, epoch) = session()?;
    let index = decode(DEVICE, epoch, handle.addr())? as usize;
    ask(&session.device(index)?)
}

/// Asks two devices.
pub(super) fn with_devices<T>(
    first: nvmlDevice_t,
    second: nvmlDevice_t,
    ask: impl FnOnce(&Session, &Device<'_>, &Device<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (session, epoch) = session()?;
    let first = decode(DEVICE, epoch, first.addr())? as usize;
    let second = decode(DEVICE, epoch, second.addr())? as usize;
    ask(&session, &session.device(first)?, &session.device(second)?)
}

/// The index that a handle stands for, whatever state the device is in.
pub(super) fn index_of(handle: nvmlDevice_t) -> Result<usize, Failure> {
    let (session, epoch) = session()?;
    let index = decode(DEVICE, epoch, handle.addr())? as usize;
    if index < session.count() {
        Ok(index)
    } else {
        Err(Failure::InvalidArgument)
    }
}

/// The handle of a device.
pub(super) fn device_handle(epoch: u32, index: usize) -> nvmlDevice_t {
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    std::ptr::without_provenance_mut(encode(DEVICE, epoch, number))
}

/// Makes an event set and returns its handle.
pub(super) fn new_event_set() -> Result<nvmlEventSet_t, Failure> {
    with_library(|library| {
        let mut sets = lock(&library.event_sets);
        let free = |number: &u32| !sets.by_number.contains_key(number);
        let mut numbers = (sets.next..0x1_0000).chain(0..sets.next);
        let number = numbers.find(free).ok_or(Failure::InsufficientResources)?;
        // Numbers go round, so that a freed handle does not soon stand for another set.
        sets.next = (number + 1) % 0x1_0000;
        let set = EventSet::new(Arc::clone(&library.session));
        sets.by_number.insert(number, Arc::new(set));
        Ok(std::ptr::without_provenance_mut(encode(
            EVENT_SET,
            library.epoch,
            number,
        )))
    })
}

/// The event set that a handle stands for.
pub(super) fn event_set(handle: nvmlEventSet_t) -> Result<(Arc<EventSet>, u32), Failure> {
    with_library(|library| {
        let number = decode(EVENT_SET, library.epoch, handle.addr())?;
        let sets = lock(&library.event_sets);
        let set = sets
            .by_number
            .get(&number)
            .ok_or(Failure::InvalidArgument)?;
        Ok((Arc::clone(set), library.epoch))
    })
}

/// Frees an event set; who waits on it goes on until his time is over.
pub(super) fn free_event_set(handle: nvmlEventSet_t) -> Result<(), Failure> {
    with_library(|library| {
        let number = decode(EVENT_SET, library.epoch, handle.addr())?;
        let removed = lock(&library.event_sets).by_number.remove(&number);
        removed.map(drop).ok_or(Failure::InvalidArgument)
    })
}

/// Begins the session, or counts another user of it.
fn initialise(check_every_gpu: bool) -> Result<(), Failure> {
    let mut library = LIBRARY.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = library.as_mut() {
        library.users += 1;
        return Ok(());
    }
    let session = Session::open(&Place::from_environment()).map_err(|error| {
        explain(&error);
        error.failure()
    })?;
    if check_every_gpu {
        for index in 0..session.count() {
            session.device(index)?;
        }
    }
    let mut epoch = lock(&EPOCH);
    *epoch = epoch.wrapping_add(1);
    *library = Some(Library {
        users: 1,
        epoch: *epoch,
        session: Arc::new(session),
        event_sets: Mutex::default(),
    });
    release_code();
    Ok(())
}

/// Gives back the pages of code that only the start needed (the kernel maps sixteen at a time):
/// they count as resident in the program that loads the library. Those that are needed again
/// come back from the page cache. Breakpoints that a debugger set before are lost.
fn release_code() {
    unsafe extern "C" {
        /// Where the linker put the file's first byte.
        safe static __ehdr_start: u8;
        /// Where the code ends.
        safe static etext: u8;
    }
    const PAGE: usize = 4096;
    let start = &raw const __ehdr_start;
    let length = (&raw const etext).addr().saturating_sub(start.addr()) / PAGE * PAGE;
    // SAFETY: Between these symbols lie headers, constants and code, which are mapped from the
    // file, private and never written: the kernel reads them again when they are touched.
    let _ = unsafe {
        rustix::mm::madvise(
            start.cast_mut().cast(),
            length,
            rustix::mm::Advice::LinuxDontNeed,
        )
    };
}

/// Says on standard error why the simulator itself does not work: NVML's return code cannot tell
/// a mistake in a scenario from a broken driver.
fn explain(error: &SessionError) {
    if let SessionError::State(reason) = error {
        use std::io::Write as _;
        // If standard error is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "mizzen: simulated NVML: {reason}");
    }
}

/// The old initialisation, which fails if any GPU does not work.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit() -> nvmlReturn_t {
    answer(|| initialise(true))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    answer(|| initialise(false))
}

/// The flags (no GPUs are fine, do not attach them) say what is always so here.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    answer(|| initialise(false))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    answer(|| {
        let mut library = LIBRARY.write().unwrap_or_else(PoisonError::into_inner);
        let users = &mut library.as_mut().ok_or(Failure::Uninitialized)?.users;
        *users -= 1;
        if *users == 0 {
            *library = None;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    match result {
        0 => c"Success".as_ptr(),
        code => Failure::from_code(code).message().as_ptr(),
    }
}

/// What was looked up.
pub(super) enum Found {
    Gpu(usize),
    Mig(usize, MigDevice),
}

/// Finds a device and writes its handle; a device that is lost has none.
pub(super) unsafe fn put_handle(
    device: *mut nvmlDevice_t,
    find: impl FnOnce(&Session) -> Result<Found, Failure>,
) -> Result<(), Failure> {
    let (session, epoch) = session()?;
    let device = required(device)?;
    let handle = match find(&session)? {
        Found::Gpu(index) => {
            session.device(index)?;
            device_handle(epoch, index)
        }
        Found::Mig(index, mig) => {
            session.device(index)?;
            mig_handle(epoch, index, &mig)
        }
    };
    // SAFETY: nvml.h: a pointer that is not null points to a writable handle.
    unsafe { put(device, handle) };
    Ok(())
}

unsafe fn put_count(count: *mut c_uint) -> Result<(), Failure> {
    let (session, _) = session()?;
    let count = required(count)?;
    let gpus = c_uint::try_from(session.count()).unwrap_or(c_uint::MAX);
    // SAFETY: nvml.h: a pointer that is not null points to a writable number.
    unsafe { put(count, gpus) };
    Ok(())
}

fn checked_index(session: &Session, index: c_uint) -> Result<Found, Failure> {
    let index = index as usize;
    if index < session.count() {
        Ok(Found::Gpu(index))
    } else {
        Err(Failure::InvalidArgument)
    }
}

macro_rules! versions {
    ($($name:ident($($argument:ident: $type:ty),+) = $body:expr;)+) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),+) -> nvmlReturn_t {
            answer(|| {
                // SAFETY: nvml.h: pointers are null or point to what their types say.
                unsafe { $body }
            })
        }
    )+};
}

versions! {
    nvmlDeviceGetCount(count: *mut c_uint) = put_count(count);
    nvmlDeviceGetCount_v2(count: *mut c_uint) = put_count(count);
    nvmlDeviceGetHandleByIndex(index: c_uint, device: *mut nvmlDevice_t) =
        put_handle(device, |session| checked_index(session, index));
    nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t) =
        put_handle(device, |session| checked_index(session, index));
    nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut nvmlDevice_t) =
        put_handle(device, |session| by_uuid(session, text(uuid)?));
    nvmlDeviceGetHandleBySerial(serial: *const c_char, device: *mut nvmlDevice_t) =
        put_handle(device, |session| session.by_serial(text(serial)?).map(Found::Gpu));
    nvmlDeviceGetHandleByPciBusId(pci: *const c_char, device: *mut nvmlDevice_t) =
        put_handle(device, |session| by_pci(session, text(pci)?));
    nvmlDeviceGetHandleByPciBusId_v2(pci: *const c_char, device: *mut nvmlDevice_t) =
        put_handle(device, |session| by_pci(session, text(pci)?));
}

/// Finds a GPU or a MIG device by the text of its UUID; a text of another shape is nobody's.
pub(super) fn by_uuid(session: &Session, uuid: &str) -> Result<Found, Failure> {
    if let Ok(uuid) = uuid.parse() {
        let (index, device) = session.by_mig_uuid(uuid)?;
        return Ok(Found::Mig(index, device));
    }
    let uuid = uuid.parse().map_err(|_| Failure::NotFound)?;
    session.by_uuid(uuid).map(Found::Gpu)
}

/// Finds a GPU or a MIG device by the bytes of its UUID.
pub(super) fn by_bytes(session: &Session, bytes: [u8; 16]) -> Result<Found, Failure> {
    if let Ok((index, device)) = session.by_mig_bytes(bytes) {
        return Ok(Found::Mig(index, device));
    }
    session.by_uuid(Uuid::from_bytes(bytes)).map(Found::Gpu)
}

fn by_pci(session: &Session, pci: &str) -> Result<Found, Failure> {
    let pci = pci.parse().map_err(|_| Failure::NotFound)?;
    session.by_pci(pci).map(Found::Gpu)
}

//! The driver that stands in for NVIDIA's: one GPU, whose memory is the host's and whose work is done when a call returns.
//!
//! Memory is poisoned when it is allocated, and lies between guard zones that are checked when it is freed.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one note above `functions!` speaks for all driver functions"
)]

use super::library::library;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The memory of the emulated GPU.
pub const BYTES: usize = 1 << 30;

/// Bytes before and after each block that nobody may write.
const GUARD: usize = 256;
const POISON: u8 = 0xFF;

/// Of pinned host memory: a page.
const HOST_ALIGNMENT: usize = 4096;

struct State {
    /// The sizes of the blocks that are allocated, by address.
    blocks: BTreeMap<u64, usize>,
    /// The sizes of the blocks of host memory that are allocated, by address.
    host: BTreeMap<usize, usize>,
    /// The name of a function, and the code that it answers instead of doing its work.
    fails: Option<(&'static str, u32)>,
    /// What was wrong with the last launch that failed.
    report: Option<String>,
    /// Launches so far: the seed of the next one's order.
    launches: u32,
}

static STATE: Mutex<State> = Mutex::new(State {
    blocks: BTreeMap::new(),
    host: BTreeMap::new(),
    fails: None,
    report: None,
    launches: 0,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was wrong with the last launch that failed; `None` if none has since the last call.
pub fn last_report() -> Option<String> {
    state().report.take()
}

/// How many blocks of memory are allocated, and their bytes.
pub fn allocated() -> (usize, usize) {
    let state = state();
    (state.blocks.len(), state.blocks.values().sum())
}

/// Runs `f` while the driver function `name` answers `code` instead of doing its work: 2 from `cuMemAlloc_v2` is a GPU without
/// memory left.
pub fn failing<T>(name: &'static str, code: u32, f: impl FnOnce() -> T) -> T {
    state().fails = Some((name, code));
    let result = f();
    state().fails = None;
    result
}

impl State {
    fn allocate(&mut self, bytes: usize) -> Result<u64, u32> {
        let used: usize = self.blocks.values().sum();
        if bytes == 0 {
            return Err(INVALID_VALUE);
        }
        if bytes > BYTES - used {
            return Err(OUT_OF_MEMORY);
        }
        let whole = layout(bytes);
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc(whole) };
        if base.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        // SAFETY: the block has this size.
        unsafe { base.write_bytes(POISON, whole.size()) };
        let address = (base.expose_provenance() + GUARD) as u64;
        self.blocks.insert(address, bytes);
        if let Some(library) = library() {
            library.allocate(address, bytes);
        }
        Ok(address)
    }

    fn free(&mut self, address: u64) -> u32 {
        let Some(bytes) = self.blocks.remove(&address) else { return INVALID_VALUE };
        if let Some(library) = library() {
            library.free(address);
        }
        let base: *mut u8 = ptr::with_exposed_provenance_mut(address as usize - GUARD);
        let whole = layout(bytes);
        // SAFETY: the block was allocated with this layout.
        let memory = unsafe { std::slice::from_raw_parts(base, whole.size()) };
        let intact = memory[..GUARD].iter().chain(&memory[GUARD + bytes..]).all(|&b| b == POISON);
        // SAFETY: as above, and nothing refers to it any more.
        unsafe { dealloc(base, whole) };
        if intact {
            return SUCCESS;
        }
        self.report = Some(format!("something was written around a block of {bytes} bytes"));
        LAUNCH_FAILED
    }

    /// Whether the bytes lie in one block.
    fn holds(&self, address: u64, bytes: usize) -> bool {
        let found = self.blocks.range(..=address).next_back();
        found.is_some_and(|(base, size)| (address - base) as usize + bytes <= *size)
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.next_multiple_of(256) + 2 * GUARD, 256)
        .expect("smaller than the emulated GPU")
}

const SUCCESS: u32 = 0;
const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const INVALID_CONTEXT: u32 = 201;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;
const ILLEGAL_ADDRESS: u32 = 700;
const LAUNCH_FAILED: u32 = 719;

const CONTEXT: *mut c_void = ptr::without_provenance_mut(0x10);
const STREAM: *mut c_void = ptr::without_provenance_mut(0x20);
const MODULE: *mut c_void = ptr::without_provenance_mut(0x30);
const EVENT: *mut c_void = ptr::without_provenance_mut(0x40);

/// Defines the functions, each of which answers a code, and `lookup`, which finds them by name.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) $body:block)*) => {
        $(
            #[allow(non_snake_case, clippy::too_many_arguments)]
            unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                match state().fails {
                    Some((name, code)) if name == stringify!($name) => return code,
                    _ => {}
                }
                $body
            }
        )*

        /// The driver function of this name.
        pub(super) fn lookup(name: &CStr) -> Option<NonNull<c_void>> {
            let address = match name.to_str().ok()? {
                $(stringify!($name) => $name as *mut c_void,)*
                _ => return None,
            };
            NonNull::new(address)
        }
    };
}

// SAFETY of all of these: the callers keep the driver's rules, so pointers to results can be written, and host memory is as long
// as they say. What they say of device memory is checked.
functions! {
    cuDriverGetVersion(version: *mut i32) {
        unsafe { version.write(13_000) };
        SUCCESS
    }
    cuInit(flags: u32) {
        if flags == 0 { SUCCESS } else { INVALID_VALUE }
    }
    cuDeviceGetCount(count: *mut i32) {
        unsafe { count.write(1) };
        SUCCESS
    }
    cuDeviceGet(device: *mut i32, ordinal: i32) {
        unsafe { device.write(ordinal) };
        if ordinal == 0 { SUCCESS } else { 101 }
    }
    cuDeviceGetName(name: *mut c_char, length: i32, _device: i32) {
        let bytes = c"Emulated GPU".to_bytes_with_nul();
        if bytes.len() > length as usize {
            return INVALID_VALUE;
        }
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), name.cast(), bytes.len()) };
        SUCCESS
    }
    cuDeviceGetAttribute(value: *mut i32, attribute: i32, _device: i32) {
        let answer = match attribute {
            1 => 1024,         // threads a block
            8 => 48 << 10,     // shared memory a block
            10 => 32,          // warp
            16 => 4,           // multiprocessors: few, so that grids of small tests go round more than once
            75 => 9,           // compute capability
            76 => 0,
            95 => 1,           // cooperative launches
            97 => 232_448,     // shared memory a block, opted in
            _ => return INVALID_VALUE,
        };
        unsafe { value.write(answer) };
        SUCCESS
    }
    cuDeviceTotalMem_v2(bytes: *mut usize, _device: i32) {
        unsafe { bytes.write(BYTES) };
        SUCCESS
    }
    cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _device: i32) {
        unsafe { context.write(CONTEXT) };
        SUCCESS
    }
    cuDevicePrimaryCtxRelease_v2(_device: i32) {
        SUCCESS
    }
    cuCtxSetCurrent(context: *mut c_void) {
        if context == CONTEXT { SUCCESS } else { INVALID_CONTEXT }
    }
    cuCtxSynchronize() {
        SUCCESS
    }
    cuGetErrorName(_code: u32, _name: *mut *const c_char) {
        INVALID_VALUE
    }
    cuStreamCreate(stream: *mut *mut c_void, flags: u32) {
        unsafe { stream.write(STREAM) };
        // Streams that wait for stream 0 are not wanted.
        if flags == 1 { SUCCESS } else { INVALID_VALUE }
    }
    cuStreamQuery(stream: *mut c_void) {
        if stream == STREAM { SUCCESS } else { INVALID_HANDLE }
    }
    cuStreamSynchronize(stream: *mut c_void) {
        if stream == STREAM { SUCCESS } else { INVALID_HANDLE }
    }
    cuStreamDestroy_v2(stream: *mut c_void) {
        if stream == STREAM { SUCCESS } else { INVALID_HANDLE }
    }
    cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, _flags: u32) {
        if stream == STREAM && event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuEventCreate(event: *mut *mut c_void, _flags: u32) {
        unsafe { event.write(EVENT) };
        SUCCESS
    }
    cuEventRecord(event: *mut c_void, stream: *mut c_void) {
        if stream == STREAM && event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuEventQuery(event: *mut c_void) {
        if event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuEventSynchronize(event: *mut c_void) {
        if event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuEventDestroy_v2(event: *mut c_void) {
        if event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let used: usize = state().blocks.values().sum();
        unsafe {
            free.write(BYTES - used);
            total.write(BYTES);
        }
        SUCCESS
    }
    cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        match state().allocate(bytes) {
            Ok(block) => unsafe { address.write(block) },
            Err(code) => return code,
        }
        SUCCESS
    }
    cuMemHostAlloc(memory: *mut *mut u8, bytes: usize, _flags: u32) {
        let Ok(whole) = Layout::from_size_align(bytes, HOST_ALIGNMENT) else { return INVALID_VALUE };
        if bytes == 0 {
            return INVALID_VALUE;
        }
        let block = unsafe { alloc(whole) };
        if block.is_null() {
            return OUT_OF_MEMORY;
        }
        state().host.insert(block.expose_provenance(), bytes);
        unsafe { memory.write(block) };
        SUCCESS
    }
    cuMemFreeHost(memory: *mut u8) {
        let Some(bytes) = state().host.remove(&memory.expose_provenance()) else { return INVALID_VALUE };
        let Ok(whole) = Layout::from_size_align(bytes, HOST_ALIGNMENT) else { return INVALID_VALUE };
        unsafe { dealloc(memory, whole) };
        SUCCESS
    }
    cuMemFree_v2(address: u64) {
        state().free(address)
    }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, _stream: *mut c_void) {
        if !state().holds(to, bytes) {
            return ILLEGAL_ADDRESS;
        }
        unsafe { ptr::copy_nonoverlapping(from, ptr::with_exposed_provenance_mut(to as usize), bytes) };
        SUCCESS
    }
    cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, _stream: *mut c_void) {
        if !state().holds(from, bytes) {
            return ILLEGAL_ADDRESS;
        }
        unsafe { ptr::copy_nonoverlapping(ptr::with_exposed_provenance(from as usize), to, bytes) };
        SUCCESS
    }
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, _stream: *mut c_void) {
        if !state().holds(to, bytes) || !state().holds(from, bytes) {
            return ILLEGAL_ADDRESS;
        }
        let from: *const u8 = ptr::with_exposed_provenance(from as usize);
        unsafe { ptr::copy(from, ptr::with_exposed_provenance_mut(to as usize), bytes) };
        SUCCESS
    }
    cuModuleLoadData(module: *mut *mut c_void, _image: *const c_void) {
        unsafe { module.write(MODULE) };
        SUCCESS
    }
    cuModuleUnload(module: *mut c_void) {
        if module == MODULE { SUCCESS } else { INVALID_HANDLE }
    }
    cuModuleGetFunction(function: *mut *const c_void, module: *mut c_void, name: *const c_char) {
        if module != MODULE {
            return INVALID_HANDLE;
        }
        let name = unsafe { CStr::from_ptr(name) };
        match library().and_then(|library| library.find(name)) {
            Some(kernel) => unsafe { function.write(kernel) },
            None => return NOT_FOUND,
        }
        SUCCESS
    }
    cuFuncSetAttribute(_function: *const c_void, attribute: i32, value: i32) {
        // The most dynamic shared memory of a launch.
        if attribute == 8 && (0..=232_448).contains(&value) { SUCCESS } else { INVALID_VALUE }
    }
    cuLaunchKernel(
        kernel: *const c_void, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: *mut c_void,
        arguments: *mut *mut c_void, extra: *mut c_void
    ) {
        if stream != STREAM || !extra.is_null() {
            return INVALID_HANDLE;
        }
        unsafe { launch(kernel, [gx, gy, gz], [bx, by, bz], shared, false, arguments) }
    }
    cuLaunchCooperativeKernel(
        kernel: *const c_void, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: *mut c_void,
        arguments: *mut *mut c_void
    ) {
        if stream != STREAM {
            return INVALID_HANDLE;
        }
        unsafe { launch(kernel, [gx, gy, gz], [bx, by, bz], shared, true, arguments) }
    }
}

/// Runs a grid; one at a time, as the machine has one order.
///
/// # Safety
/// The kernel came from `cuModuleGetFunction`, and the arguments are its.
unsafe fn launch(
    kernel: *const c_void,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    cooperative: bool,
    arguments: *mut *mut c_void,
) -> u32 {
    let mut state = state();
    let Some(library) = library() else { return NOT_FOUND };
    state.launches = state.launches.wrapping_add(1);
    let (seed, shared) = (state.launches, shared as usize);
    // SAFETY: passed on.
    match unsafe { library.launch(kernel, grid, block, shared, cooperative, seed, arguments) } {
        Ok(()) => SUCCESS,
        Err(report) => {
            state.report = Some(report);
            LAUNCH_FAILED
        }
    }
}

//! A driver of a few functions, with one GPU whose memory is the host's, in the place of libcuda for this process.
//!
//! `failing` makes one of its functions answer a code; `with_count` and `with_version` change what it says of itself.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "one note above `lookup!` speaks for all driver functions"
)]

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use gradus_kernels_cuda::driver;

/// The code that a function answers instead of what it would, by name.
static FAIL: Mutex<Option<(&'static str, u32)>> = Mutex::new(None);
/// The sizes of the blocks that are allocated, by address.
static BLOCKS: Mutex<BTreeMap<u64, usize>> = Mutex::new(BTreeMap::new());
static LAUNCHES: Mutex<Vec<[u64; 11]>> = Mutex::new(Vec::new());
/// Held by each test, as there is one driver for all.
static TURN: Mutex<()> = Mutex::new(());

static COUNT: AtomicI32 = AtomicI32::new(1);
static VERSION: AtomicI32 = AtomicI32::new(13_000);

pub(crate) const NAME: &CStr = c"Fake GPU";
pub(crate) const MEMORY: usize = 1 << 20;

/// Installs the fake driver, if it is not yet, and keeps other tests out until the guard is dropped.
pub(crate) fn driver() -> MutexGuard<'static, ()> {
    static INSTALL: Once = Once::new();
    let turn = lock(&TURN);
    // SAFETY: each function of `lookup` has the signature of the driver's documentation and lives forever.
    INSTALL.call_once(|| assert!(unsafe { driver::stand_in(lookup) }, "nothing has used the driver before"));
    turn
}

/// Runs `f` while the driver function `name` answers `code`.
pub(crate) fn failing<T>(name: &'static str, code: u32, f: impl FnOnce() -> T) -> T {
    *lock(&FAIL) = Some((name, code));
    let result = f();
    *lock(&FAIL) = None;
    result
}

/// Runs `f` while there are `count` GPUs.
pub(crate) fn with_count<T>(count: i32, f: impl FnOnce() -> T) -> T {
    COUNT.store(count, Relaxed);
    let result = f();
    COUNT.store(1, Relaxed);
    result
}

/// Runs `f` while the driver is of another version: 12040 is CUDA 12.4.
pub(crate) fn with_version<T>(version: i32, f: impl FnOnce() -> T) -> T {
    let before = VERSION.swap(version, Relaxed);
    let result = f();
    VERSION.store(before, Relaxed);
    result
}

/// How many blocks and bytes are allocated.
pub(crate) fn allocated() -> (usize, usize) {
    let blocks = lock(&BLOCKS);
    (blocks.len(), blocks.values().sum())
}

/// The arguments of the launches so far.
pub(crate) fn launches() -> Vec<[u64; 11]> {
    lock(&LAUNCHES).clone()
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Defines the functions, each of which answers a code, and `lookup`, which finds them by name.
macro_rules! lookup {
    ($($name:ident($($argument:ident: $type:ty),*) $body:block)*) => {
        $(
            #[allow(non_snake_case, clippy::too_many_arguments)]
            unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                assert_aligned_stack();
                match *lock(&FAIL) {
                    Some((name, code)) if name == stringify!($name) => return code,
                    _ => {}
                }
                $body
            }
        )*

        fn lookup(name: &CStr) -> Option<NonNull<c_void>> {
            let address = match name.to_str().expect("names are ASCII") {
                $(stringify!($name) => $name as *mut c_void,)*
                _ => return None,
            };
            NonNull::new(address)
        }
    };
}

const CONTEXT: *mut c_void = ptr::dangling_mut::<u64>().cast();
const STREAM: *mut c_void = ptr::dangling_mut::<u128>().cast();

// SAFETY of all of these: the callers keep the driver's rules, so pointers to results can be written and ranges of
// device memory lie inside a block.
lookup! {
    cuDriverGetVersion(version: *mut i32) {
        unsafe { version.write(VERSION.load(Relaxed)) };
        0
    }
    cuInit(flags: u32) {
        if flags == 0 { 0 } else { 1 }
    }
    cuDeviceGetCount(count: *mut i32) {
        unsafe { count.write(COUNT.load(Relaxed)) };
        0
    }
    cuDeviceGet(device: *mut i32, ordinal: i32) {
        unsafe { device.write(ordinal) };
        if ordinal == 0 { 0 } else { 101 }
    }
    cuDeviceGetName(name: *mut c_char, length: i32, _device: i32) {
        let bytes = NAME.to_bytes_with_nul();
        assert!(bytes.len() <= length as usize);
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), name.cast(), bytes.len()) };
        0
    }
    cuDeviceGetAttribute(value: *mut i32, attribute: i32, _device: i32) {
        match attribute {
            75 => unsafe { value.write(9) },
            76 => unsafe { value.write(0) },
            _ => return 1,
        }
        0
    }
    cuDeviceTotalMem_v2(bytes: *mut usize, _device: i32) {
        unsafe { bytes.write(MEMORY) };
        0
    }
    cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _device: i32) {
        unsafe { context.write(CONTEXT) };
        0
    }
    cuDevicePrimaryCtxRelease_v2(_device: i32) {
        0
    }
    cuCtxSetCurrent(context: *mut c_void) {
        if context == CONTEXT { 0 } else { 201 }
    }
    cuCtxSynchronize() {
        0
    }
    cuGetErrorName(code: u32, name: *mut *const c_char) {
        if code != 912 {
            return 1;
        }
        unsafe { name.write(c"CUDA_ERROR_INVALID_CLUSTER_SIZE".as_ptr()) };
        0
    }
    cuStreamCreate(stream: *mut *mut c_void, flags: u32) {
        unsafe { stream.write(STREAM) };
        // Streams that wait for stream 0 are not wanted.
        if flags == 1 { 0 } else { 1 }
    }
    cuStreamQuery(stream: *mut c_void) {
        if stream == STREAM { 0 } else { 400 }
    }
    cuStreamSynchronize(stream: *mut c_void) {
        if stream == STREAM { 0 } else { 400 }
    }
    cuStreamDestroy_v2(stream: *mut c_void) {
        if stream == STREAM { 0 } else { 400 }
    }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        unsafe {
            free.write(MEMORY - allocated().1);
            total.write(MEMORY);
        }
        0
    }
    cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        if bytes == 0 {
            return 1;
        }
        if bytes > MEMORY - allocated().1 {
            return 2;
        }
        let block = unsafe { alloc(layout(bytes)) }.expose_provenance() as u64;
        lock(&BLOCKS).insert(block, bytes);
        unsafe { address.write(block) };
        0
    }
    cuMemFree_v2(address: u64) {
        let Some(bytes) = lock(&BLOCKS).remove(&address) else { return 1 };
        unsafe { dealloc(ptr::with_exposed_provenance_mut(address as usize), layout(bytes)) };
        0
    }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, _stream: *mut c_void) {
        unsafe { ptr::copy_nonoverlapping(from, ptr::with_exposed_provenance_mut(to as usize), bytes) };
        0
    }
    cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, _stream: *mut c_void) {
        unsafe { ptr::copy_nonoverlapping(ptr::with_exposed_provenance(from as usize), to, bytes) };
        0
    }
    cuTexRefSetMipmapLevelBias(texture: u64, bias: f32) {
        if texture == 7 && bias == 0.75 { 0 } else { 1 }
    }
    cuLaunchKernel(f: u64, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, smem: u32, s: u64, p: u64, x: u64) {
        let [gx, gy, gz, bx, by, bz, smem] = [gx, gy, gz, bx, by, bz, smem].map(u64::from);
        lock(&LAUNCHES).push([f, gx, gy, gz, bx, by, bz, smem, s, p, x]);
        0
    }
}

/// Fails if a trampoline calls with a stack that is not aligned to 16 bytes, as the ABI wants it.
fn assert_aligned_stack() {
    #[repr(align(16))]
    struct Aligned([u8; 16]);
    let local = Aligned([0; 16]);
    // Hidden from the compiler, which takes the alignment for granted.
    assert_eq!(std::hint::black_box(local.0.as_ptr().addr()) % 16, 0);
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 256).expect("smaller than the fake GPU")
}

//! The emulated driver with a few functions of its own before it, in the place of libcuda for this process.
//!
//! `failing` makes a function answer a code; `with_count` and `with_version` change what the driver says of itself.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use gradus_kernels_cuda::{driver, emulator};

/// The code that a function answers instead of what it would, by name.
static FAIL: Mutex<Option<(&'static str, u32)>> = Mutex::new(None);
static LAUNCHES: Mutex<Vec<[u64; 11]>> = Mutex::new(Vec::new());
/// Held by each test, as there is one driver for all.
static TURN: Mutex<()> = Mutex::new(());

static COUNT: AtomicI32 = AtomicI32::new(1);
static VERSION: AtomicI32 = AtomicI32::new(13_000);

/// Installs the fake driver, if it is not yet, and keeps other tests out until the guard is dropped.
pub(crate) fn driver() -> MutexGuard<'static, ()> {
    static INSTALL: Once = Once::new();
    let turn = lock(&TURN);
    let lookup = |name: &CStr| own(name).or_else(|| emulator::driver_function(name));
    // SAFETY: each function has the signature of the driver's documentation and lives forever.
    INSTALL.call_once(|| assert!(unsafe { driver::stand_in(lookup) }, "nothing has used the driver before"));
    turn
}

/// Runs `f` while the driver function `name` answers `code`.
pub(crate) fn failing<T>(name: &'static str, code: u32, f: impl FnOnce() -> T) -> T {
    *lock(&FAIL) = Some((name, code));
    let result = emulator::failing(name, code, f);
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

/// The arguments of the launches so far.
pub(crate) fn launches() -> Vec<[u64; 11]> {
    lock(&LAUNCHES).clone()
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Defines the functions, each of which answers a code, and `own`, which finds them by name.
macro_rules! functions {
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

        fn own(name: &CStr) -> Option<NonNull<c_void>> {
            let address = match name.to_str().expect("names are ASCII") {
                $(stringify!($name) => $name as *mut c_void,)*
                // What this driver is to lack.
                "cuModuleLoadData" => not_supported as *mut c_void,
                _ => return None,
            };
            NonNull::new(address)
        }
    };
}

extern "C" fn not_supported() -> u32 {
    801
}

functions! {
    cuDriverGetVersion(version: *mut i32) {
        // SAFETY: the caller's place for the result.
        unsafe { version.write(VERSION.load(Relaxed)) };
        0
    }
    cuDeviceGetCount(count: *mut i32) {
        // SAFETY: the caller's place for the result.
        unsafe { count.write(COUNT.load(Relaxed)) };
        0
    }
    cuGetErrorName(code: u32, name: *mut *const c_char) {
        if code != 912 {
            return 1;
        }
        // SAFETY: the caller's place for the result.
        unsafe { name.write(c"CUDA_ERROR_INVALID_CLUSTER_SIZE".as_ptr()) };
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

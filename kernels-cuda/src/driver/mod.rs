//! Opens the NVIDIA driver when it is first needed, so that one binary runs with and without it.
//!
//! cust calls the driver's functions as if they were linked in. They are: `trampolines.rs` defines all of them, and the
//! first call through one opens `libcuda.so.1` and looks the function up. Where there is no driver, each returns
//! `CUDA_ERROR_NO_DEVICE`. The driver is never closed again, so addresses found in it stay valid.
//!
//! No code that the driver may answer is undefined behaviour in cust, see [`Code`]; the exception are the six functions
//! that are `direct` in `names.rs` (`cuLaunchKernel` among them), which must be declared by hand as returning `u32`
//! instead of being called through cust.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;

mod code;
mod names;
mod trampolines;

pub use code::Code;
pub(crate) use code::{check, check_code, check_raw};

/// Finds a driver function by name, as `dlsym` does.
pub type Lookup = fn(&CStr) -> Option<NonNull<c_void>>;

enum Library {
    Absent(String),
    Opened(LibraryHandle),
    StandIn(Lookup),
}

/// What `dlopen` returned for libcuda; not null.
struct LibraryHandle(NonNull<c_void>);

// SAFETY: the handle is only ever passed to `dlsym`, which any thread may call at any time.
unsafe impl Send for LibraryHandle {}
// SAFETY: as above; `dlsym` calls may also overlap.
unsafe impl Sync for LibraryHandle {}

static LIBRARY: OnceLock<Library> = OnceLock::new();

fn library() -> &'static Library {
    LIBRARY.get_or_init(open)
}

fn open() -> Library {
    // SAFETY: the name is a C string. Opening runs libcuda's initialisers, which is what a program linked to libcuda
    // does before `main`; there is no other way to use the driver.
    let handle = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    match NonNull::new(handle) {
        Some(handle) => Library::Opened(LibraryHandle(handle)),
        None => Library::Absent(last_dl_error()),
    }
}

fn last_dl_error() -> String {
    // SAFETY: no arguments. The result is null or a C string of this thread, valid until its next `dl` call.
    let message = unsafe { libc::dlerror() };
    if message.is_null() {
        return "libcuda.so.1 cannot be opened".to_owned();
    }
    // SAFETY: not null, and nothing called `dl` functions on this thread since.
    unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned()
}

/// Whether there is an NVIDIA driver to call. There may be no GPU still.
pub fn driver_present() -> bool {
    absence().is_none()
}

/// Why the driver could not be opened; `None` if it is open.
pub(crate) fn absence() -> Option<&'static str> {
    match library() {
        Library::Absent(reason) => Some(reason),
        Library::Opened(_) | Library::StandIn(_) => None,
    }
}

/// The address of a driver function; `None` without a driver or if the driver has no such function.
///
/// This is how functions newer than cust's bindings are reached, `cuTensorMapEncodeTiled` for one. Each is to be
/// declared as returning `u32` (a [`Code`]), not cust's enum.
pub fn symbol(name: &CStr) -> Option<NonNull<c_void>> {
    match library() {
        Library::Absent(_) => None,
        // SAFETY: the handle came from `dlopen` and is never closed; the name is a C string.
        Library::Opened(handle) => NonNull::new(unsafe { libc::dlsym(handle.0.as_ptr(), name.as_ptr()) }),
        Library::StandIn(lookup) => lookup(name),
    }
}

/// Puts `lookup` in the place of the driver for the whole process: a fake for tests, an emulator.
///
/// Returns whether it took effect, which it does not after the first use of the driver.
///
/// # Safety
///
/// Each address that `lookup` returns must be a function that lives forever, with the signature that the driver's
/// documentation gives for that name and the driver's promises about what it writes and returns.
pub unsafe fn stand_in(lookup: Lookup) -> bool {
    LIBRARY.set(Library::StandIn(lookup)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_says_which_library_is_missing() {
        if let Some(reason) = absence() {
            assert!(reason.contains("libcuda.so.1"), "{reason}");
            assert_eq!(symbol(c"cuInit"), None);
        } else {
            assert!(symbol(c"cuInit").is_some());
        }
    }

    #[test]
    fn a_name_that_no_driver_has_is_not_found() {
        assert_eq!(symbol(c"cuNoSuchFunction"), None);
    }

    #[test]
    fn a_stand_in_comes_too_late_after_the_first_use() {
        let _ = driver_present();
        // SAFETY: a lookup that finds nothing returns no address.
        assert!(!unsafe { stand_in(|_| None) });
    }
}

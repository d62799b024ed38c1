//! A loaded library of emulated kernels: the C interface of `cuda/emulator/library.h`.

use super::EmulatorError;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

type Find = unsafe extern "C" fn(*const c_char) -> *const c_void;
type Parameters = unsafe extern "C" fn(*const c_void, *mut usize, usize) -> usize;
type Register = unsafe extern "C" fn(usize, usize);
type Forget = unsafe extern "C" fn(usize);
type Launch = unsafe extern "C" fn(
    *const c_void,
    *const c_uint,
    *const c_uint,
    usize,
    c_int,
    c_uint,
    *mut *mut c_void,
    *mut c_char,
    usize,
) -> c_int;

/// The functions of the library.
pub(super) struct Library {
    find: Find,
    parameters: Parameters,
    allocate: Register,
    free: Forget,
    launch: Launch,
}

static LIBRARY: OnceLock<Library> = OnceLock::new();

/// The loaded library; `None` before [`load`].
pub(super) fn library() -> Option<&'static Library> {
    LIBRARY.get()
}

/// Loads a library, once in a process.
pub(super) fn load(path: &Path) -> Result<(), EmulatorError> {
    let wrong = |reason: &str| EmulatorError::NotKernels { path: path.to_owned(), reason: reason.to_owned() };
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| wrong("its name holds a zero byte"))?;
    // SAFETY: the name is a C string. Loading runs the library's initialisers, which register kernels.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        return Err(wrong("it cannot be loaded"));
    }
    let symbol = |name: &CStr| {
        // SAFETY: the handle is open and never closed; the name is a C string.
        let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
        if address.is_null() {
            Err(wrong(&format!("it has no {}", name.to_string_lossy())))
        } else {
            Ok(address)
        }
    };
    let (find, allocate) = (symbol(c"gradus_emulator_find")?, symbol(c"gradus_emulator_allocate")?);
    let parameters = symbol(c"gradus_emulator_parameters")?;
    let (free, launch) = (symbol(c"gradus_emulator_free")?, symbol(c"gradus_emulator_launch")?);
    // SAFETY: `library.h` declares the functions of these names with these types.
    let library = unsafe {
        Library {
            find: std::mem::transmute::<*mut c_void, Find>(find),
            parameters: std::mem::transmute::<*mut c_void, Parameters>(parameters),
            allocate: std::mem::transmute::<*mut c_void, Register>(allocate),
            free: std::mem::transmute::<*mut c_void, Forget>(free),
            launch: std::mem::transmute::<*mut c_void, Launch>(launch),
        }
    };
    LIBRARY.set(library).map_err(|_| EmulatorError::TooLate)
}

impl Library {
    /// The kernel of this name.
    pub(super) fn find(&self, name: &CStr) -> Option<*const c_void> {
        // SAFETY: the name is a C string.
        let kernel = unsafe { (self.find)(name.as_ptr()) };
        (!kernel.is_null()).then_some(kernel)
    }

    /// The sizes of a kernel's parameters in bytes.
    ///
    /// # Safety
    /// `kernel` came from [`find`](Self::find).
    pub(super) unsafe fn parameters(&self, kernel: *const c_void) -> Vec<usize> {
        let mut sizes = vec![0; 64];
        loop {
            // SAFETY: the caller vouches for the kernel; there is room for as many sizes.
            let count = unsafe { (self.parameters)(kernel, sizes.as_mut_ptr(), sizes.len()) };
            let enough = count <= sizes.len();
            sizes.resize(count, 0);
            if enough {
                return sizes;
            }
        }
    }

    /// Tells the machine of a block of memory.
    pub(super) fn allocate(&self, address: u64, bytes: usize) {
        // SAFETY: the function only notes the numbers; the driver's lock keeps launches out.
        unsafe { (self.allocate)(address as usize, bytes) }
    }

    /// Tells the machine that a block is gone.
    pub(super) fn free(&self, address: u64) {
        // SAFETY: as above.
        unsafe { (self.free)(address as usize) }
    }

    /// Runs a grid to its end; what is wrong with it, if anything.
    ///
    /// # Safety
    /// `kernel` came from [`find`](Self::find), and `arguments` holds a pointer to a value of its type for each parameter.
    pub(super) unsafe fn launch(
        &self,
        kernel: *const c_void,
        grid: [u32; 3],
        block: [u32; 3],
        shared: usize,
        cooperative: bool,
        seed: u32,
        arguments: *mut *mut c_void,
    ) -> Result<(), String> {
        let mut message = [0u8; 1024];
        let (text, length) = (message.as_mut_ptr().cast(), message.len());
        let cooperative = c_int::from(cooperative);
        // SAFETY: the caller vouches for kernel and arguments; the rest points to what the function reads and writes.
        let wrong = unsafe {
            (self.launch)(
                kernel,
                grid.as_ptr(),
                block.as_ptr(),
                shared,
                cooperative,
                seed,
                arguments,
                text,
                length,
            )
        };
        if wrong == 0 {
            return Ok(());
        }
        let text = CStr::from_bytes_until_nul(&message).unwrap_or(c"an error without a message");
        Err(text.to_string_lossy().into_owned())
    }
}

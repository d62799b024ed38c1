//! Result codes of the driver as plain numbers, and the filter that keeps cust from seeing one that it does not know.
//!
//! cust's bindings are of CUDA 11.4 and declare the driver's result as a Rust enum. A newer driver answers codes that
//! the enum lacks (46 from `cuDevicePrimaryCtxRetain` when the GPU is taken, 912 for a cluster that does not fit), and
//! an enum with such a value is undefined behaviour. So the trampolines pass what the driver answered, if not 0,
//! through [`filter`]: cust sees `CUDA_ERROR_UNKNOWN` for a code it does not know, and [`check`] puts the driver's own
//! code back into the error.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::ptr;

use cust::error::CudaResult;
use cust::sys::cudaError_enum;

use crate::CudaError;

/// What a driver function answered: 0 is success.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

macro_rules! known {
    ($($name:ident)*) => {
        /// Codes that are variants of cust's enum, by construction, with their names.
        const KNOWN: &[(u32, &str)] = &[$((cudaError_enum::$name as u32, stringify!($name)),)*];
    };
}

known! {
    CUDA_SUCCESS CUDA_ERROR_INVALID_VALUE CUDA_ERROR_OUT_OF_MEMORY CUDA_ERROR_NOT_INITIALIZED
    CUDA_ERROR_DEINITIALIZED CUDA_ERROR_PROFILER_DISABLED CUDA_ERROR_PROFILER_NOT_INITIALIZED
    CUDA_ERROR_PROFILER_ALREADY_STARTED CUDA_ERROR_PROFILER_ALREADY_STOPPED CUDA_ERROR_STUB_LIBRARY
    CUDA_ERROR_NO_DEVICE CUDA_ERROR_INVALID_DEVICE CUDA_ERROR_DEVICE_NOT_LICENSED CUDA_ERROR_INVALID_IMAGE
    CUDA_ERROR_INVALID_CONTEXT CUDA_ERROR_CONTEXT_ALREADY_CURRENT CUDA_ERROR_MAP_FAILED
    CUDA_ERROR_UNMAP_FAILED CUDA_ERROR_ARRAY_IS_MAPPED CUDA_ERROR_ALREADY_MAPPED
    CUDA_ERROR_NO_BINARY_FOR_GPU CUDA_ERROR_ALREADY_ACQUIRED CUDA_ERROR_NOT_MAPPED
    CUDA_ERROR_NOT_MAPPED_AS_ARRAY CUDA_ERROR_NOT_MAPPED_AS_POINTER CUDA_ERROR_ECC_UNCORRECTABLE
    CUDA_ERROR_UNSUPPORTED_LIMIT CUDA_ERROR_CONTEXT_ALREADY_IN_USE CUDA_ERROR_PEER_ACCESS_UNSUPPORTED
    CUDA_ERROR_INVALID_PTX CUDA_ERROR_INVALID_GRAPHICS_CONTEXT CUDA_ERROR_NVLINK_UNCORRECTABLE
    CUDA_ERROR_JIT_COMPILER_NOT_FOUND CUDA_ERROR_UNSUPPORTED_PTX_VERSION CUDA_ERROR_JIT_COMPILATION_DISABLED
    CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY CUDA_ERROR_INVALID_SOURCE CUDA_ERROR_FILE_NOT_FOUND
    CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND CUDA_ERROR_SHARED_OBJECT_INIT_FAILED
    CUDA_ERROR_OPERATING_SYSTEM CUDA_ERROR_INVALID_HANDLE CUDA_ERROR_ILLEGAL_STATE CUDA_ERROR_NOT_FOUND
    CUDA_ERROR_NOT_READY CUDA_ERROR_ILLEGAL_ADDRESS CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
    CUDA_ERROR_LAUNCH_TIMEOUT CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING
    CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED CUDA_ERROR_PEER_ACCESS_NOT_ENABLED
    CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE CUDA_ERROR_CONTEXT_IS_DESTROYED CUDA_ERROR_ASSERT
    CUDA_ERROR_TOO_MANY_PEERS CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED CUDA_ERROR_HARDWARE_STACK_ERROR CUDA_ERROR_ILLEGAL_INSTRUCTION
    CUDA_ERROR_MISALIGNED_ADDRESS CUDA_ERROR_INVALID_ADDRESS_SPACE CUDA_ERROR_INVALID_PC
    CUDA_ERROR_LAUNCH_FAILED CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE CUDA_ERROR_NOT_PERMITTED
    CUDA_ERROR_NOT_SUPPORTED CUDA_ERROR_SYSTEM_NOT_READY CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE CUDA_ERROR_MPS_CONNECTION_FAILED CUDA_ERROR_MPS_RPC_FAILURE
    CUDA_ERROR_MPS_SERVER_NOT_READY CUDA_ERROR_MPS_MAX_CLIENTS_REACHED
    CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED CUDA_ERROR_STREAM_CAPTURE_MERGE
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED CUDA_ERROR_STREAM_CAPTURE_UNJOINED
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION CUDA_ERROR_STREAM_CAPTURE_IMPLICIT CUDA_ERROR_CAPTURED_EVENT
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD CUDA_ERROR_TIMEOUT CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE
    CUDA_ERROR_EXTERNAL_DEVICE CUDA_ERROR_UNKNOWN
}

unsafe extern "C" {
    // The trampoline of names.rs, declared with a number where `cust::sys` has the enum.
    fn cuGetErrorName(code: u32, name: *mut *const c_char) -> u32;
}

impl Code {
    /// `CUDA_SUCCESS`.
    pub const SUCCESS: Code = Code(0);
    const UNKNOWN: Code = Code(cudaError_enum::CUDA_ERROR_UNKNOWN as u32);

    fn known_name(self) -> Option<&'static str> {
        KNOWN.iter().find(|(code, _)| *code == self.0).map(|(_, name)| *name)
    }

    /// The name in the driver's documentation, such as `CUDA_ERROR_OUT_OF_MEMORY`.
    ///
    /// The driver is asked about codes newer than cust's bindings; one that it does not know either is
    /// `an unnamed error`.
    pub fn name(self) -> &'static str {
        self.known_name().or_else(|| self.name_by_driver()).unwrap_or("an unnamed error")
    }

    fn name_by_driver(self) -> Option<&'static str> {
        let last = LAST.get();
        let mut name = ptr::null();
        // SAFETY: `cuGetErrorName` takes any number and writes only `name`.
        let answer = unsafe { cuGetErrorName(self.0, &raw mut name) };
        LAST.set(last);
        if answer != 0 || name.is_null() {
            return None;
        }
        // SAFETY: the driver answered success, so `name` is a C string constant of the driver, which is never closed.
        unsafe { CStr::from_ptr(name) }.to_str().ok()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0, self.name())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

thread_local! {
    /// The last code but 0 that a driver function answered on this thread.
    static LAST: Cell<Code> = const { Cell::new(Code::SUCCESS) };
}

/// What cust may see of a code: the code itself or `CUDA_ERROR_UNKNOWN`. Called by the trampolines.
pub(super) extern "C" fn filter(code: u32) -> u32 {
    LAST.set(Code(code));
    if Code(code).known_name().is_some() { code } else { Code::UNKNOWN.0 }
}

/// The error of a cust function that called `call`, with the code that the driver answered.
///
/// # Errors
///
/// [`CudaError::Driver`] if `result` is an error.
pub(crate) fn check<T>(call: &'static str, result: CudaResult<T>) -> Result<T, CudaError> {
    result.map_err(|error| {
        // cust says UnknownError both for what the filter hid and for codes that it has no variant for.
        let code =
            if error == cust::error::CudaError::UnknownError { LAST.get() } else { Code(error as u32) };
        failure(call, code)
    })
}

/// The error of a function of `cust::sys`.
///
/// # Errors
///
/// [`CudaError::Driver`] unless `answer` is success.
pub(crate) fn check_raw(call: &'static str, answer: cudaError_enum) -> Result<(), CudaError> {
    match answer {
        cudaError_enum::CUDA_SUCCESS => Ok(()),
        cudaError_enum::CUDA_ERROR_UNKNOWN => Err(failure(call, LAST.get())),
        known => Err(failure(call, Code(known as u32))),
    }
}

/// The error of a driver function that is declared as returning a number.
///
/// # Errors
///
/// [`CudaError::Driver`] unless `answer` is success.
pub(crate) fn check_code(call: &'static str, answer: u32) -> Result<(), CudaError> {
    // What a `checked` trampoline hid behind "unknown", this thread remembers.
    let unknown = answer == Code::UNKNOWN.0;
    if answer == 0 { Ok(()) } else { Err(failure(call, if unknown { LAST.get() } else { Code(answer) })) }
}

fn failure(call: &'static str, code: Code) -> CudaError {
    CudaError::Driver { call, code: code.0, name: code.name().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_lets_through_what_cust_knows_and_nothing_else() {
        for code in 0..2000 {
            let seen = filter(code);
            assert!(Code(seen).known_name().is_some(), "{code} became {seen}");
            assert!(seen == code || seen == 999, "{code} became {seen}");
            assert_eq!(LAST.get(), Code(code));
        }
        assert_eq!(filter(700), 700);
        assert_eq!(filter(912), 999);
        assert_eq!(filter(u32::MAX), 999);
    }

    #[test]
    fn a_known_code_has_its_name_without_a_driver() {
        assert_eq!(Code(2).to_string(), "2 (CUDA_ERROR_OUT_OF_MEMORY)");
        assert_eq!(Code::SUCCESS.name(), "CUDA_SUCCESS");
    }

    #[test]
    fn a_code_that_nobody_knows_still_prints() {
        assert_eq!(Code(123_456).to_string(), "123456 (an unnamed error)");
    }
}

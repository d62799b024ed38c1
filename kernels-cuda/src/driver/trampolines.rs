//! Defines every function of `names.rs` as a trampoline into the driver, so that nothing is linked to libcuda.
//!
//! The symbols are hidden: cust's calls bind to them when the program is linked, and neither libcuda's own calls nor
//! other libraries of the process ever see them. Signatures are not needed, as the trampolines leave every argument
//! where it is.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::code::filter;
use super::names::driver_functions;

macro_rules! define {
    (checked [$($checked:ident)*] direct [$($direct:ident)*]) => {
        #[cfg(target_arch = "x86_64")]
        core::arch::global_asm!(
            include_str!("x86_64.s"),
            $(concat!("checked ", stringify!($checked)),)*
            $(concat!("direct ", stringify!($direct)),)*
            resolve = sym resolve,
            filter = sym filter,
            options(att_syntax)
        );

        #[cfg(target_arch = "aarch64")]
        core::arch::global_asm!(
            include_str!("aarch64.s"),
            $(concat!("checked ", stringify!($checked)),)*
            $(concat!("direct ", stringify!($direct)),)*
            resolve = sym resolve,
            filter = sym filter
        );

        /// The names in the order of the slots, each with the `\0` that `dlsym` wants.
        const NAMES: &[&str] = &[
            $(concat!(stringify!($checked), "\0"),)*
            $(concat!(stringify!($direct), "\0"),)*
        ];
    };
}

driver_functions!(define);

unsafe extern "C" {
    /// The first of `NAMES.len()` slots, defined by the assembler beside the trampolines.
    safe static cuda_slots: [AtomicPtr<c_void>; NAMES.len()];
}

/// Fills a slot at the first call through it; what the assembler jumps to is returned.
///
/// Two threads may do so at once: both find the same address.
extern "C" fn resolve(slot: *const AtomicPtr<c_void>) -> *const c_void {
    let index = (slot.addr() - (&raw const cuda_slots).addr()) / size_of::<AtomicPtr<c_void>>();
    let name = CStr::from_bytes_with_nul(NAMES[index].as_bytes()).expect("the macro appends the only \\0");
    let function = match super::symbol(name) {
        Some(function) => function.as_ptr().cast_const(),
        None if super::absence().is_some() => no_driver as *const c_void,
        None => not_in_this_driver as *const c_void,
    };
    cuda_slots[index].store(function.cast_mut(), Ordering::Release);
    function
}

/// What every function does without a driver: nothing, for any arguments. `CUDA_ERROR_NO_DEVICE`.
extern "C" fn no_driver() -> u32 {
    100
}

/// What a function does that this driver is too old to have. `CUDA_ERROR_NOT_SUPPORTED`.
extern "C" fn not_in_this_driver() -> u32 {
    801
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_slot_that_resolve_fills() {
        assert_eq!(NAMES.len(), 353);
        for (name, slot) in NAMES.iter().zip(&cuda_slots) {
            assert!(name.starts_with("cu"), "{name}");
            assert_eq!(std::ptr::from_ref(slot).addr() % 8, 0);
        }
        let first = resolve(&raw const cuda_slots[0]);
        assert_eq!(cuda_slots[0].load(Ordering::Acquire).cast_const(), first);
    }
}

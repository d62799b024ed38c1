//! Types of a kernel's parameters, and what a launch gives for each.

use std::marker::PhantomData;

use tensor::{Element, Error, ErrorKind, Result, Scalar, Tensor};

use crate::backend::storage;
use crate::gpu::Gpu;
use crate::module::Parameter;

/// A `Slice<const T>`: a tensor that the kernel reads, given as `&Tensor`.
pub struct In<T>(PhantomData<T>);

/// A `Slice<T>`: a tensor that the kernel writes, and may read, given as `&mut Tensor`. Nobody else may see its memory.
pub struct Out<T>(PhantomData<T>);

/// What a kernel has as one parameter: [`In`], [`Out`] or a number.
pub trait Takes: sealed::Sealed {
    /// What a launch gives for it.
    type Given<'a>;
    /// Checks it and puts it behind the others.
    #[doc(hidden)]
    fn pack(given: Self::Given<'_>, to: &mut Packed) -> Result<()>;
}

/// The parameters of a kernel in order: a tuple of up to twelve types that are [`Takes`].
pub trait Signature {
    /// What a launch gives for them.
    type Given<'a>;
    /// Checks and puts all of them.
    #[doc(hidden)]
    fn pack(given: Self::Given<'_>, to: &mut Packed) -> Result<()>;
}

mod sealed {
    pub trait Sealed {}
}

/// The arguments of a launch as the driver takes them.
#[doc(hidden)]
pub struct Packed {
    gpu: &'static Gpu,
    pub(super) values: Vec<Value>,
}

/// An argument of up to 16 bytes: a number in the first ones, as both sides are little-endian, or a `Slice`.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Value([u64; 2]);

// SAFETY: the driver copies as many bytes as the parameter has: a number, or `Slice` of cuda/slice.h, an address and a count.
unsafe impl Parameter for Value {}

impl Packed {
    pub(super) fn of(gpu: &'static Gpu) -> Packed {
        Packed { gpu, values: vec![] }
    }

    fn tensor<T: Element>(&mut self, x: &Tensor) -> Result<()> {
        let dtype = <T::Storage as Scalar>::DTYPE;
        if x.dtype() != dtype {
            return Err(ErrorKind::DTypeMismatch { op: "launch", lhs: dtype, rhs: x.dtype() }.into());
        }
        if self.gpu.device.get() != Some(x.device()) {
            let (lhs, rhs) = (self.gpu.name.clone(), x.device().to_string());
            return Err(ErrorKind::DeviceMismatch { op: "launch", lhs, rhs }.into());
        }
        if !x.layout().is_contiguous() {
            let message = format!("argument {} does not lie in row-major order", self.values.len());
            return Err(Error::argument("launch", message).hint("pass x.contiguous()"));
        }
        self.values.push(Value([storage::at(x).0, x.numel() as u64]));
        Ok(())
    }
}

impl<T: Element> sealed::Sealed for In<T> {}
impl<T: Element> Takes for In<T> {
    type Given<'a> = &'a Tensor;
    fn pack(given: &Tensor, to: &mut Packed) -> Result<()> {
        to.tensor::<T>(given)
    }
}

impl<T: Element> sealed::Sealed for Out<T> {}
impl<T: Element> Takes for Out<T> {
    type Given<'a> = &'a mut Tensor;
    fn pack(given: &mut Tensor, to: &mut Packed) -> Result<()> {
        if given.storage_mut().is_none() {
            let message =
                format!("argument {} is written, and other tensors see its memory", to.values.len());
            return Err(Error::argument("launch", message).hint("write to a new tensor, or to x.copy()"));
        }
        to.tensor::<T>(given)?;
        storage::changes(given);
        Ok(())
    }
}

macro_rules! numbers {
    ($($T:ty as $bits:ty),+) => { $(
        impl sealed::Sealed for $T {}
        impl Takes for $T {
            type Given<'a> = $T;
            fn pack(given: $T, to: &mut Packed) -> Result<()> {
                to.values.push(Value([u64::from(<$bits>::from_le_bytes(given.to_le_bytes())), 0]));
                Ok(())
            }
        }
    )+ };
}

numbers!(i32 as u32, u32 as u32, i64 as u64, u64 as u64, f32 as u32, f64 as u64);

macro_rules! signatures {
    ($($first:ident $($T:ident)*;)+) => { $(
        impl<$first: Takes, $($T: Takes),*> Signature for ($first, $($T,)*) {
            type Given<'a> = ($first::Given<'a>, $($T::Given<'a>,)*);
            #[allow(non_snake_case, reason = "a value is called as its type")]
            fn pack(($first, $($T,)*): Self::Given<'_>, to: &mut Packed) -> Result<()> {
                $first::pack($first, to)?;
                $($T::pack($T, to)?;)*
                Ok(())
            }
        }
    )+ };
}

signatures! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
    A B C D E F G H I;
    A B C D E F G H I J;
    A B C D E F G H I J K;
    A B C D E F G H I J K L;
}

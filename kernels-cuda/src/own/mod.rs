//! Kernels of one's own: loaded from what nvcc made of them, launched on tensors by functions that check types and devices.
//!
//! A kernel is written on the primitives of `cuda/device.h`, like those of this crate, and takes each tensor as a `Slice` of
//! `cuda/slice.h`, its elements and their number:
//!
//! ```cpp
//! #include "slice.h"
//!
//! // y = x², a thread for each element.
//! KERNEL(square, (Slice<float> y, Slice<const float> x)) {
//!     const auto i = global_thread();
//!     if (i < y.count) y[i] = x[i] * x[i];
//! }
//! ```
//!
//! So it runs on a GPU and on the emulated one. [`Kernels::compile`] compiles it when the program runs, with nvcc; [`Kernels::load`]
//! takes a fatbin that a build script made. What Rust cannot see, the parameters that the kernel was written with, is promised once,
//! where it is looked up; the launches are safe:
//!
//! ```no_run
//! use gradus_kernels_cuda::own::{In, Kernels, Launch, Out, empty};
//! # fn main() -> tensor::Result<()> {
//! let device = gradus_kernels_cuda::device(0)?;
//! let kernels = Kernels::compile(&device, "kernels/square.cu".as_ref(), "target/kernels".as_ref())?;
//! // SAFETY: the kernel has these parameters, and touches elements below `count` alone.
//! let square = unsafe { kernels.get::<(Out<f32>, In<f32>)>("square")? };
//!
//! let x = tensor::Tensor::randn([100], &device)?;
//! let mut y = empty(&x)?;
//! square.launch(Launch::over(x.numel(), 256), (&mut y, &x))?;
//! # Ok(()) }
//! ```
//!
//! Launches are put into the queue that all work of the GPU goes through, so they come after what their tensors are computed by and
//! before what uses the results. With `Var::record` of gradus-autograd such an op becomes differentiable; the example `own_kernel`
//! goes the whole way.

mod compile;
mod signature;

use std::marker::PhantomData;
use std::path::Path;

use tensor::{DType, Device, Error, ErrorKind, Layout, Result, Tensor};

use crate::backend::storage;
use crate::gpu::{Gpu, gpu};
use crate::module::{self, Argument, Module};
use crate::stream::Stream;
use crate::{CudaError, emulator};

pub use crate::module::Launch;
use signature::Packed;
pub use signature::{In, Out, Signature, Takes};

/// Compiled kernels, loaded for one GPU.
#[derive(Clone)]
pub struct Kernels {
    gpu: &'static Gpu,
    module: Module,
}

impl Kernels {
    /// Loads an image: the bytes of a cubin or fatbin, or PTX that ends in a zero byte. The emulated GPU has the kernels that it was
    /// installed with, and does not look at the image.
    ///
    /// # Safety
    ///
    /// The driver does not check that the bytes are a whole image; they must be what nvcc wrote.
    ///
    /// # Errors
    ///
    /// If the device is no GPU, or what the driver answered: 209 if the image has nothing for this GPU, 222 if its PTX is too new.
    pub unsafe fn load(device: &Device, image: &[u8]) -> Result<Kernels> {
        let gpu = gpu_of(device)?;
        // SAFETY: passed on.
        Ok(Kernels { gpu, module: unsafe { Module::load(gpu.context, image)? } })
    }

    /// Compiles a source for the device with nvcc, which is looked for in `NVCC`, `CUDA_PATH`, `/usr/local/cuda` and `PATH`, and loads
    /// what comes out. That is kept in `folder`, so a source is compiled again only when it changed. For the emulated GPU there is
    /// nothing to do: it has the kernels that it was installed with.
    ///
    /// # Errors
    ///
    /// If the device is no GPU, there is no nvcc, or with what nvcc said.
    pub fn compile(device: &Device, source: &Path, folder: &Path) -> Result<Kernels> {
        let gpu = gpu_of(device)?;
        let image = match emulator::installed() {
            true => vec![0],
            false => compile::compile(source, gpu.context.info().compute_capability, folder)?,
        };
        // SAFETY: the image is what nvcc wrote, or not looked at.
        unsafe { Kernels::load(device, &image) }
    }

    /// The kernel of this name, with the types of its parameters: [`Out`] and [`In`] for a `Slice`, numbers for numbers.
    ///
    /// # Safety
    ///
    /// The kernel has these parameters in this order, and whatever it is launched with, touches elements of its slices alone, and
    /// writes to none of a `Slice<const T>`.
    ///
    /// # Errors
    ///
    /// If no kernel has this name.
    pub unsafe fn get<S: Signature>(&self, name: &str) -> Result<Kernel<S>> {
        let kernel = self.module.kernel(name).map_err(|error| match error {
            CudaError::Driver { code: 500, .. } => {
                ErrorKind::Device(format!("{}: no kernel is called {name}", self.gpu.name)).into()
            }
            other => Error::from(other),
        })?;
        Ok(Kernel { gpu: self.gpu, kernel, signature: PhantomData })
    }
}

/// A kernel with the types of its parameters.
pub struct Kernel<S> {
    gpu: &'static Gpu,
    kernel: module::Kernel,
    signature: PhantomData<fn(S)>,
}

impl<S: Signature> Kernel<S> {
    /// Puts the kernel into the GPU's queue. A launch without blocks does nothing.
    ///
    /// # Errors
    ///
    /// If a tensor is of another dtype or on another device, or does not lie densely in row-major order; if one that is written shares
    /// its memory with another tensor; or what the driver answered: 1 for a grid or block of a size that the GPU does not have, 701
    /// if a block needs more registers or shared memory than there are.
    pub fn launch(&self, launch: Launch, given: S::Given<'_>) -> Result<()> {
        let mut packed = Packed::of(self.gpu);
        S::pack(given, &mut packed)?;
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let arguments: Vec<Argument> = packed.values.iter().map(Argument::from).collect();
        // SAFETY: whoever looked the kernel up promised that it has these parameters and stays inside of the slices. The tensors were
        // borrowed until here, and their memory is not used again before the kernel, which is in the queue then, is done.
        Ok(unsafe { self.kernel.launch(launch, self.gpu.queue(), &arguments) }?)
    }
}

/// A new tensor of the shape, dtype and device of `like`, of unspecified content: for a kernel to write.
///
/// # Errors
///
/// If `like` is not on a GPU, or memory runs out.
pub fn empty(like: &Tensor) -> Result<Tensor> {
    let gpu = gpu_of(like.device())?;
    storage::New::contiguous(gpu, like.shape(), like.dtype())?.tensor()
}

/// The queue of a GPU's work: what is put there by other means comes in order with the ops on its tensors.
/// In the closure of a [`Graph`](crate::Graph)'s capture it is the queue that is recorded.
///
/// # Errors
///
/// If the device is no GPU.
pub fn stream(device: &Device) -> Result<&'static Stream> {
    Ok(gpu_of(device)?.queue())
}

/// Where the first element of a tensor lies in the GPU's memory: for other libraries, which must use it in the order of [`stream`] and
/// while the tensor lives. 0 if it has no elements.
///
/// # Errors
///
/// If it is on no GPU.
pub fn address(x: &Tensor) -> Result<u64> {
    gpu_of(x.device())?;
    storage::is_exposed(x);
    Ok(if x.numel() == 0 { 0 } else { storage::at(x).0 })
}

/// A tensor over memory that another library has allocated in the primary context of the GPU, such as that of a tensor of PyTorch.
///
/// # Safety
///
/// At `address` begin elements of `dtype`, as far as `layout` reaches. They stay allocated until the tensor, all
/// its views and all work with them are done, and nobody writes to them meanwhile except in the order of [`stream`].
///
/// # Errors
///
/// If the device is no GPU, or the address is not aligned to an element.
pub unsafe fn lent(device: &Device, address: u64, dtype: DType, layout: Layout) -> Result<Tensor> {
    if !address.is_multiple_of(dtype.size() as u64) {
        let message = format!("address {address:#x} is not aligned to elements of {dtype}");
        return Err(Error::argument("lent", message));
    }
    let bytes = layout.bounds().map_or(0, |(_, high)| (high + 1) * dtype.size());
    storage::lent(gpu_of(device)?, address, bytes, dtype, layout)
}

/// The GPU behind a device.
pub(crate) fn gpu_of(device: &Device) -> Result<&'static Gpu> {
    let index = device.name().strip_prefix("cuda:").and_then(|index| index.parse().ok());
    if let Some(index) = index {
        let gpu = gpu(index)?;
        // Somebody else's device may have such a name too.
        if gpu.device.get().is_some_and(|ours| ours == device) {
            return Ok(gpu);
        }
    }
    Err(ErrorKind::Device(format!("GPUs alone run CUDA kernels, and the device here is {device}")).into())
}

//! Compiled kernels loaded into a context, and their launch: the one place where work is handed to a GPU.

use std::ffi::{CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use crate::driver::check_code;
use crate::{Context, CudaError, stream::Stream};

// Trampolines of `driver::names`, declared with a number where cust has an enum of too few codes.
unsafe extern "C" {
    fn cuModuleLoadData(module: *mut *mut c_void, image: *const c_void) -> u32;
    fn cuModuleUnload(module: *mut c_void) -> u32;
    fn cuModuleGetFunction(function: *mut *mut c_void, module: *mut c_void, name: *const c_char) -> u32;
    fn cuFuncSetAttribute(function: *mut c_void, attribute: i32, value: i32) -> u32;
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut i32,
        function: *mut c_void,
        threads: i32,
        shared: usize,
    ) -> u32;
    fn cuLaunchKernel(
        function: *mut c_void,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared: u32,
        stream: *mut c_void,
        arguments: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;
    fn cuLaunchCooperativeKernel(
        function: *mut c_void,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared: u32,
        stream: *mut c_void,
        arguments: *mut *mut c_void,
    ) -> u32;
}

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MAX_DYNAMIC_SHARED: i32 = 8;

/// `CUDA_ERROR_INVALID_VALUE`.
const INVALID_VALUE: u32 = 1;

/// What a kernel may have of shared memory without asking.
const SHARED_UNASKED: u32 = 48 << 10;

/// Kernels compiled to a cubin, a fatbin or PTX, loaded into a context.
#[derive(Clone, Debug)]
pub struct Module(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    context: Context,
    raw: *mut c_void,
}

// SAFETY: a module belongs to a context, not to a thread; the driver's functions may be called from any thread that has made that
// context current, which every method here does first.
unsafe impl Send for Loaded {}
// SAFETY: as above; the driver locks its modules, so calls may overlap.
unsafe impl Sync for Loaded {}

impl Module {
    /// Loads an image: the bytes of a cubin or fatbin, or PTX that ends in a zero byte.
    ///
    /// # Safety
    ///
    /// The driver does not check that the bytes are a whole image; they must be what nvcc wrote.
    ///
    /// # Errors
    ///
    /// What the driver answered: 209 if the image has no kernel for this GPU, 222 if its PTX is too new for the driver.
    pub unsafe fn load(context: Context, image: &[u8]) -> Result<Self, CudaError> {
        context.make_current()?;
        let mut raw = ptr::null_mut();
        // SAFETY: a context is current; `raw` is written; the caller vouches for the image.
        check_code("cuModuleLoadData", unsafe { cuModuleLoadData(&raw mut raw, image.as_ptr().cast()) })?;
        Ok(Self(Arc::new(Loaded { context, raw })))
    }

    /// The kernel of this name.
    ///
    /// # Errors
    ///
    /// What the driver answered: 500 if there is none.
    pub fn kernel(&self, name: &str) -> Result<Kernel, CudaError> {
        self.0.context.make_current()?;
        // A name with a zero byte inside is no kernel's.
        let name = CString::new(name).unwrap_or_default();
        let mut raw = ptr::null_mut();
        // SAFETY: the module lives as long as `self`; the name is a C string; `raw` is written.
        let answer = unsafe { cuModuleGetFunction(&raw mut raw, self.0.raw, name.as_ptr()) };
        check_code("cuModuleGetFunction", answer)?;
        Ok(Kernel { module: self.clone(), raw })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // Nobody can be told of a failure here.
        if self.context.make_current().is_ok() {
            // SAFETY: loaded by `Module::load`, unloaded only here, when no `Kernel` holds it any more.
            let _ = unsafe { cuModuleUnload(self.raw) };
        }
    }
}

/// A kernel of a [`Module`].
#[derive(Clone, Debug)]
pub struct Kernel {
    module: Module,
    raw: *mut c_void,
}

// SAFETY: as for the module that it keeps.
unsafe impl Send for Kernel {}
// SAFETY: as for the module that it keeps.
unsafe impl Sync for Kernel {}

/// The shape of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Launch {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// Whether all blocks must be resident at once, so that `grid_sync` works.
    pub cooperative: bool,
}

impl Launch {
    /// `blocks` blocks of `threads` threads.
    pub fn new(blocks: u32, threads: u32) -> Launch {
        Launch { grid: [blocks, 1, 1], threads, shared: 0, cooperative: false }
    }

    /// Blocks of `threads` threads, one thread for each of `count` elements and the last block filled up: a kernel leaves those past
    /// the end out. No block at all for no element; at most `u32::MAX` blocks.
    pub fn over(count: usize, threads: u32) -> Launch {
        let blocks = count.div_ceil(threads.max(1) as usize);
        Launch::new(u32::try_from(blocks).unwrap_or(u32::MAX), threads)
    }
}

/// A type that a kernel takes as it lies in memory.
///
/// # Safety
///
/// Every bit of the value means to the kernel what it means here: numbers, and `#[repr(C)]` structs of them without padding.
pub unsafe trait Parameter: Copy {}

macro_rules! parameters {
    ($($T:ty)+) => { $(
        // SAFETY: C++ and Rust agree on this type.
        unsafe impl Parameter for $T {}
    )+ };
}

parameters!(i8 i16 i32 i64 u8 u16 u32 u64 f32 f64);

/// A reference to an argument, without its type.
#[derive(Clone, Copy, Debug)]
pub struct Argument<'a>(*const c_void, PhantomData<&'a ()>);

impl<'a, T: Parameter> From<&'a T> for Argument<'a> {
    fn from(value: &'a T) -> Self {
        Argument(ptr::from_ref(value).cast(), PhantomData)
    }
}

impl Kernel {
    /// How many blocks of such a launch a multiprocessor holds at once: a cooperative launch has at most so many for each. 0 if one alone is
    /// too large.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub fn resident(&self, launch: Launch) -> Result<usize, CudaError> {
        self.module.0.context.make_current()?;
        match self.allow_shared(launch.shared) {
            Err(CudaError::Driver { code: INVALID_VALUE, .. }) => return Ok(0),
            allowed => allowed?,
        }
        let threads = i32::try_from(launch.threads).unwrap_or(i32::MAX);
        let mut blocks = 0;
        // SAFETY: the function lives as long as its module, which `self` holds; the number is written.
        let answer = unsafe {
            cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &raw mut blocks,
                self.raw,
                threads,
                launch.shared as usize,
            )
        };
        check_code("cuOccupancyMaxActiveBlocksPerMultiprocessor", answer)?;
        Ok(usize::try_from(blocks).unwrap_or(0))
    }

    /// Asks for as much dynamic shared memory, if one must ask.
    fn allow_shared(&self, shared: u32) -> Result<(), CudaError> {
        if shared <= SHARED_UNASKED {
            return Ok(());
        }
        let bytes = i32::try_from(shared).unwrap_or(i32::MAX);
        // SAFETY: the function lives as long as its module, which `self` holds.
        let answer = unsafe { cuFuncSetAttribute(self.raw, MAX_DYNAMIC_SHARED, bytes) };
        check_code("cuFuncSetAttribute", answer)
    }

    /// Puts the kernel into the queue. The driver copies the arguments before this returns.
    ///
    /// # Safety
    ///
    /// The arguments are the kernel's parameters, in number, order and type; memory that they lead to is long enough, lives until
    /// the kernel is done, and is touched by nobody else in a way that races with it.
    ///
    /// # Errors
    ///
    /// What the driver answered: 1 for a grid or block of a size that the GPU does not have, 701 if a block needs more registers or
    /// shared memory than there are, 720 if a cooperative grid does not fit at once.
    pub unsafe fn launch(
        &self,
        launch: Launch,
        stream: &Stream,
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        self.module.0.context.make_current()?;
        let Launch { grid: [x, y, z], threads, shared, cooperative } = launch;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|a| a.0.cast_mut()).collect();
        let (function, stream, pointers) = (self.raw, stream.as_raw().cast(), pointers.as_mut_ptr());
        self.allow_shared(shared)?;
        if cooperative {
            // SAFETY: function and stream live; the caller vouches for the arguments.
            let answer = unsafe {
                cuLaunchCooperativeKernel(function, x, y, z, threads, 1, 1, shared, stream, pointers)
            };
            return check_code("cuLaunchCooperativeKernel", answer);
        }
        // SAFETY: as above.
        let answer = unsafe {
            cuLaunchKernel(function, x, y, z, threads, 1, 1, shared, stream, pointers, ptr::null_mut())
        };
        check_code("cuLaunchKernel", answer)
    }
}

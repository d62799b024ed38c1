//! A GPU as the backend uses it: its context, its one stream, its memory, and its kernels by name.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use tensor::Device;

use crate::capture::Captures;
use crate::images::images;
use crate::module::{Kernel, Module};
use crate::pool::Pool;
use crate::staging::Staging;
use crate::{Context, CudaError, emulator, open, stream::Stream};

/// One GPU. Opened once and kept until the process ends, as are its kernels.
pub(crate) struct Gpu {
    pub(crate) name: String,
    pub(crate) stream: Stream,
    /// Where work goes that is recorded: nothing ever runs there.
    pub(crate) side: Stream,
    pub(crate) captures: Captures,
    /// How many replays of graphs there were.
    pub(crate) replays: AtomicU64,
    pub(crate) pool: Pool,
    /// Blocks run on so many of them.
    pub(crate) multiprocessors: usize,
    /// The handle that tensors know it by; set when it is opened.
    pub(crate) device: OnceLock<Device>,
    pub(crate) context: Context,
    staging: Mutex<Option<Staging>>,
    modules: Vec<Module>,
    kernels: RwLock<HashMap<String, &'static Kernel>>,
}

/// The GPU of this index; every call for one index gives the same.
///
/// # Errors
///
/// As [`open`], or [`CudaError::KernelsNotBuilt`].
pub(crate) fn gpu(index: usize) -> Result<&'static Gpu, CudaError> {
    static OPENED: Mutex<BTreeMap<usize, &'static Gpu>> = Mutex::new(BTreeMap::new());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(gpu) = opened.get(&index) {
        return Ok(gpu);
    }
    let context = open(index)?;
    // The emulated driver knows its kernels without an image.
    let images = if emulator::installed() { vec![Cow::Borrowed(&[0][..])] } else { images()? };
    if images.is_empty() {
        return Err(CudaError::KernelsNotBuilt { device: context.info().name.clone() });
    }
    // SAFETY: the images are what nvcc wrote, when this crate was built or into the folder that was named for them.
    let load = |image: &Cow<[u8]>| unsafe { Module::load(context, image) };
    // Some kernels are for some GPUs only: where an image has none for this one, others have.
    let (mut modules, mut lacking) = (vec![], None);
    for loaded in images.iter().map(load) {
        match loaded {
            Err(error @ CudaError::Driver { code: NO_BINARY, .. }) => lacking = Some(error),
            loaded => modules.push(loaded?),
        }
    }
    if let (true, Some(error)) = (modules.is_empty(), lacking) {
        return Err(error);
    }
    let gpu = Gpu {
        name: format!("cuda:{index}"),
        stream: Stream::new(context)?,
        side: Stream::new(context)?,
        captures: Captures::default(),
        replays: AtomicU64::new(0),
        pool: Pool::new(context),
        multiprocessors: context.multiprocessors()?,
        device: OnceLock::new(),
        context,
        staging: Mutex::new(None),
        modules,
        kernels: RwLock::new(HashMap::new()),
    };
    // Leaked on purpose, once for each GPU: tensors may outlive everything else.
    Ok(opened.entry(index).or_insert(Box::leak(Box::new(gpu))))
}

impl Gpu {
    /// Whether it runs what is compiled for sm_90a, which no later GPU does.
    pub(crate) fn is_hopper(&self) -> bool {
        self.context.info().compute_capability == (9, 0)
    }

    /// The kernel of this name, found once and kept.
    ///
    /// # Errors
    ///
    /// What the driver answered: 500 if no image has it.
    pub(crate) fn kernel(&self, name: &str) -> Result<&'static Kernel, CudaError> {
        let known = self.kernels.read().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if let Some(kernel) = known {
            return Ok(kernel);
        }
        let mut found = Err(CudaError::KernelsNotBuilt { device: self.context.info().name.clone() });
        for module in &self.modules {
            found = module.kernel(name);
            if !matches!(found, Err(CudaError::Driver { code: NOT_FOUND, .. })) {
                break;
            }
        }
        // Leaked on purpose: there are as many as kernels.
        let kernel: &'static Kernel = Box::leak(Box::new(found?));
        self.kernels.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), kernel);
        Ok(kernel)
    }

    /// Copies `host` to the beginning of a block.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub(crate) fn upload(&self, to: &mut Block, host: &[u8]) -> Result<(), CudaError> {
        assert!(host.len() <= to.bytes, "{} bytes do not fit a block of {}", host.len(), to.bytes);
        self.not_captured("a transfer to the GPU")?;
        // SAFETY: the block is long enough, and borrowed mutably; all its uses are in the order of the stream.
        self.with_staging(|staging| unsafe { staging.upload(to.address, host, &self.stream) })
    }

    /// Copies bytes of a block, from `start` on, to `host`.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    pub(crate) fn download(&self, from: &Block, start: usize, host: &mut [u8]) -> Result<(), CudaError> {
        let inside = start.checked_add(host.len()).is_some_and(|end| end <= from.bytes);
        assert!(inside, "a block of {} bytes does not hold {} from {start} on", from.bytes, host.len());
        self.not_captured("a transfer from the GPU, which waits for it,")?;
        let at = from.address + start as u64;
        // SAFETY: as asserted; what writes to the block comes before this in the order of the stream.
        self.with_staging(|staging| unsafe { staging.download(at, host, &self.stream) })
    }

    fn with_staging<T>(&self, f: impl FnOnce(&mut Staging) -> Result<T, CudaError>) -> Result<T, CudaError> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match &mut *staging {
            Some(staging) => f(staging),
            None => f(staging.insert(Staging::new(self.context)?)),
        };
        if result.is_err() {
            // Copies may still be under way: the block must not be used again before they end, nor freed.
            let _ = self.stream.synchronize();
        }
        result
    }
}

/// `CUDA_ERROR_NO_BINARY_FOR_GPU`.
const NO_BINARY: u32 = 209;

/// `CUDA_ERROR_NOT_FOUND`.
const NOT_FOUND: u32 = 500;

/// A block of a GPU's memory, of unspecified content until written.
pub(crate) struct Block {
    gpu: &'static Gpu,
    address: u64,
    bytes: usize,
    /// Whether it is the pool's; else it is lent by somebody who frees it.
    pooled: bool,
}

impl Block {
    /// A block of `bytes` bytes; none at all are taken for 0.
    ///
    /// # Errors
    ///
    /// [`CudaError::OutOfMemory`] if they do not fit.
    pub(crate) fn new(gpu: &'static Gpu, bytes: usize) -> Result<Block, CudaError> {
        let address = if bytes == 0 { 0 } else { gpu.pool.take(bytes, gpu.captures.here())? };
        Ok(Block { gpu, address, bytes, pooled: true })
    }

    /// A block of memory that somebody else has allocated, and frees.
    pub(crate) fn lent(gpu: &'static Gpu, address: u64, bytes: usize) -> Block {
        Block { gpu, address, bytes, pooled: false }
    }

    pub(crate) fn gpu(&self) -> &'static Gpu {
        self.gpu
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.pooled && self.bytes > 0 {
            self.gpu.pool.give(self.address);
        }
    }
}

//! Work that is recorded once and then started as a whole, which costs one call of the driver instead of one for each kernel.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering::Release;
use std::sync::{Mutex, PoisonError};

use tensor::{Device, Error, Tensor};

use crate::backend::overwrite;
use crate::capture::{Check, Collected, Number, SLOTS};
use crate::driver::check_code;
use crate::gpu::{Block, Gpu};
use crate::launch::{self, Numbers, Pointer};
use crate::module::Launch;
use crate::own::gpu_of;
use crate::{Context, CudaError, stream::Stream};

// Trampolines of `driver::names`, declared with a number where cust has an enum of too few codes.
unsafe extern "C" {
    fn cuStreamBeginCapture_v2(stream: *mut c_void, mode: u32) -> u32;
    fn cuStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void) -> u32;
    fn cuGraphInstantiateWithFlags(exec: *mut *mut c_void, graph: *mut c_void, flags: u64) -> u32;
    fn cuGraphDestroy(graph: *mut c_void) -> u32;
    fn cuGraphExecDestroy(exec: *mut c_void) -> u32;
    fn cuGraphLaunch(exec: *mut c_void, stream: *mut c_void) -> u32;
}

/// `CU_STREAM_CAPTURE_MODE_RELAXED`: memory may be allocated and kernels loaded meanwhile, and other threads go on.
const RELAXED: u32 = 2;

/// The work of a closure on a GPU, recorded once, to be done again and again: PyTorch's `torch.cuda.CUDAGraph`.
///
/// A replay starts the very kernels that the closure started, on the same memory: it reads what the tensors that the closure used hold
/// now, and writes its results into the tensors that the closure returned. So the host's cost of a step is that of one call.
///
/// ```no_run
/// use gradus_kernels_cuda::{Graph, device};
/// use tensor::Tensor;
/// # fn main() -> tensor::Result<()> {
/// let gpu = device(0)?;
/// let (x, w) = (Tensor::zeros([32, 784], &gpu)?, Tensor::ones([784, 10], &gpu)?);
/// let (graph, y) = Graph::capture(&gpu, || x.matmul(&w)?.relu())?;
/// for batch in [Tensor::ones([32, 784], &gpu)?] {
///     graph.write(&x, &batch)?;
///     graph.replay()?;
///     println!("{}", y.mean_all()?.item()?);
/// }
/// # Ok(()) }
/// ```
///
/// # What a closure may do
///
/// - It may not wait for the GPU or transfer anything (`item`, `to_vec`, `from_slice`, `nonzero`): that is an error, which ends the
///   capture. Make such tensors before.
/// - What a step leaves for the next one must be changed in place. The optimizers `Sgd`, `Adam` and `AdamW` do so: let them make a
///   step before, which creates their state and loads the kernels; one that would have to make copies is an error.
/// - Plain numbers are those of the capture: a learning rate, say. The numbers of Adam's steps go on with each replay, and so do
///   draws of random numbers, each generator's as if nothing else drew from it. The host's own counts stay where the capture left them.
/// - Whether indices are within range is asked by [`check`](Self::check); those out of range read and write nothing.
///
/// # Memory
///
/// All that the closure uses is kept for the graph until it is dropped, even if the tensors are dropped before; a tensor that the closure
/// returned stays valid after the graph. Other threads may go on using the GPU during a capture.
pub struct Graph {
    gpu: &'static Gpu,
    exec: Executable,
    checks: Vec<Check>,
    numbers: Vec<Number>,
    drawn: BTreeMap<u64, u64>,
    slots: Block,
    /// How many there were; locked while one is put into the queue.
    replays: Mutex<u64>,
    _reserve: Reserve,
}

impl Graph {
    /// Records what `step` has the GPU do, without doing it: until the first replay the tensors in its result hold nothing of meaning.
    ///
    /// # Errors
    ///
    /// What `step` returned, or that it did what cannot be captured; if the device is not one of CUDA, or another thread captures; what the
    /// driver answered. Everything is as usable afterwards as it was before.
    pub fn capture<T>(
        device: &Device,
        step: impl FnOnce() -> tensor::Result<T>,
    ) -> tensor::Result<(Graph, T)> {
        let gpu = gpu_of(device)?;
        let capture = Capture::begin(gpu)?;
        let result = step();
        let (collected, ended, reserve) = capture.end();
        // What was refused is the reason for whatever else went wrong.
        if let Some(refused) = collected.refused {
            return Err(refused.into());
        }
        let result = result?;
        let graph = Graph {
            gpu,
            exec: ended?.executable(gpu.side.context())?,
            checks: collected.checks,
            numbers: collected.numbers,
            drawn: collected.drawn,
            slots: collected.slots,
            replays: Mutex::new(0),
            _reserve: reserve,
        };
        Ok((graph, result))
    }

    /// Puts all of the recorded work into the GPU's queue; it does not wait for it.
    ///
    /// # Errors
    ///
    /// What the driver answered, or that the calling thread is capturing.
    pub fn replay(&self) -> tensor::Result<()> {
        self.gpu.not_captured("the replay of a graph")?;
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_numbers(*replays)?;
        let launched = self.exec.launch(&self.gpu.stream);
        // Afterwards, so that whoever sees the number finds the work in the queue.
        self.gpu.replays.fetch_add(1, Release);
        launched?;
        *replays += 1;
        Ok(())
    }

    /// How many replays there were.
    pub fn replays(&self) -> u64 {
        *self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `value` into the memory of `x`, in place, after all that is in the queue: new input for the next replay. Every tensor that
    /// shares this memory sees it.
    ///
    /// # Errors
    ///
    /// If `x` is not on the GPU of this graph, or the shapes or dtypes differ.
    pub fn write(&self, x: &Tensor, value: &Tensor) -> tensor::Result<()> {
        const OP: &str = "Graph::write";
        if !std::ptr::eq(gpu_of(x.device())?, self.gpu) {
            return Err(Error::argument(OP, "the tensor is on another GPU than the graph"));
        }
        if x.shape() != value.shape() {
            return Err(Error::shapes(OP, x.shape(), value.shape()));
        }
        if x.dtype() != value.dtype() {
            return Err(Error::dtype(OP, value.dtype(), "the dtype of the tensor that is written"));
        }
        overwrite(self.gpu, x, &value.to_device(x.device())?)
    }

    /// Waits for the GPU, and says whether the indices and classes of the last replay were within range.
    ///
    /// # Errors
    ///
    /// With the first that was not; what the driver answered.
    pub fn check(&self) -> tensor::Result<()> {
        self.gpu.stream.synchronize()?;
        self.checks.iter().try_for_each(|check| check())
    }

    /// Sets the numbers that this replay, counted from 0, finds in memory.
    fn set_numbers(&self, replay: u64) -> Result<(), CudaError> {
        for (i, chunk) in self.numbers.chunks(Numbers::MOST).enumerate() {
            let mut values = Numbers::default();
            for (value, number) in values.0.iter_mut().zip(chunk) {
                *value = match number {
                    Number::Draw { seed, offset } => {
                        offset.wrapping_add(self.drawn[seed].wrapping_mul(replay))
                    }
                    Number::Of(f) => f(replay).to_bits(),
                };
            }
            let at = Pointer(self.slots.address() + (i * Numbers::MOST * 8) as u64);
            let launch = Launch::new(1, Numbers::MOST as u32);
            launch::set_numbers(self.gpu, "set_numbers", launch, values, chunk.len() as u32, at)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph of {} after {} replays", self.gpu.name, self.replays())
    }
}

/// A capture under way on this thread, which ends when it is dropped.
struct Capture {
    gpu: &'static Gpu,
    recording: bool,
    reserve: Option<Reserve>,
}

impl Capture {
    fn begin(gpu: &'static Gpu) -> tensor::Result<Capture> {
        gpu.not_captured("a capture")?;
        let slots = Block::new(gpu, SLOTS * 8)?;
        let mut collecting = gpu.captures.collected();
        if collecting.is_some() {
            return Err(Error::argument("Graph::capture", "another thread is capturing on this GPU"));
        }
        let (numbers, drawn, checks) = Default::default();
        *collecting = Some(Collected { slots, numbers, drawn, checks, refused: None });
        drop(collecting);
        let mut capture =
            Capture { gpu, recording: false, reserve: Some(Reserve { gpu, id: gpu.pool.open_reserve() }) };
        // From here on all is undone by `drop`.
        gpu.side.context().make_current()?;
        // SAFETY: the stream lives as long as the process.
        let answer = unsafe { cuStreamBeginCapture_v2(gpu.side.as_raw().cast(), RELAXED) };
        check_code("cuStreamBeginCapture_v2", answer)?;
        capture.recording = true;
        gpu.captures.enter();
        Ok(capture)
    }

    /// What was collected, the recorded work, and the memory that belongs to it.
    fn end(mut self) -> (Collected, Result<Recorded, CudaError>, Reserve) {
        let (recorded, collected) = (self.stop(), self.finish());
        let reserve = self.reserve.take().expect("taken only here");
        (collected.expect("this capture put it there"), recorded, reserve)
    }

    /// Ends the recording.
    fn stop(&mut self) -> Result<Recorded, CudaError> {
        self.recording = false;
        self.gpu.captures.leave();
        self.gpu.side.context().make_current()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the stream lives as long as the process; the graph's handle is written, and null after an error.
        let answer = unsafe { cuStreamEndCapture(self.gpu.side.as_raw().cast(), &raw mut graph) };
        let recorded = Recorded(graph);
        check_code("cuStreamEndCapture", answer).map(|()| recorded)
    }

    /// Lets others capture.
    fn finish(&self) -> Option<Collected> {
        self.gpu.pool.close_reserve();
        self.gpu.captures.collected().take()
    }
}

impl Drop for Capture {
    /// Does what is left to be done where it was not brought to its end: the driver refused it, or the closure panicked.
    fn drop(&mut self) {
        if self.recording {
            let _ = self.stop();
        }
        if self.reserve.is_some() {
            drop(self.finish());
        }
    }
}

/// Recorded work.
struct Recorded(*mut c_void);

impl Recorded {
    fn executable(self, context: Context) -> Result<Executable, CudaError> {
        let mut raw = ptr::null_mut();
        // SAFETY: the graph lives, and its context is current; the handle is written.
        let answer = unsafe { cuGraphInstantiateWithFlags(&raw mut raw, self.0, 0) };
        check_code("cuGraphInstantiateWithFlags", answer).map(|()| Executable { context, raw })
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the driver gave the graph, which is destroyed only here. Nobody can be told of a failure.
            let _ = unsafe { cuGraphDestroy(self.0) };
        }
    }
}

/// Recorded work, ready to be started.
struct Executable {
    context: Context,
    raw: *mut c_void,
}

// SAFETY: it belongs to a context, not to a thread.
unsafe impl Send for Executable {}
// SAFETY: the one method that takes a reference is called under the lock of `Graph::replays`.
unsafe impl Sync for Executable {}

impl Executable {
    fn launch(&self, stream: &Stream) -> Result<(), CudaError> {
        self.context.make_current()?;
        // SAFETY: both live; what the kernels use is kept by the graph's reserve.
        check_code("cuGraphLaunch", unsafe { cuGraphLaunch(self.raw, stream.as_raw().cast()) })
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // Nobody can be told of a failure here.
        if self.context.make_current().is_ok() {
            // SAFETY: the driver gave the handle, which is destroyed only here; work under way is finished first.
            let _ = unsafe { cuGraphExecDestroy(self.raw) };
        }
    }
}

/// Memory that nobody else gets while it is there.
struct Reserve {
    gpu: &'static Gpu,
    id: u64,
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.gpu.pool.drop_reserve(self.id);
    }
}

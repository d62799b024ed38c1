//! Streams of the emulated driver, work that is recorded in them, and graphs made of it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Arc;

use super::library::Library;
use super::state::SUCCESS;

const INVALID_HANDLE: u32 = 400;
const ILLEGAL_STATE: u32 = 401;
const CAPTURE_UNSUPPORTED: u32 = 900;
const CAPTURE_INVALIDATED: u32 = 901;

/// A launch, with its arguments.
pub(super) struct Node {
    pub(super) kernel: *const c_void,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) shared: u32,
    pub(super) cooperative: bool,
    arguments: Vec<Vec<Aligned>>,
}

// SAFETY: the kernel lies in a library that is never unloaded, and is not changed.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

/// As far as any parameter wants to be aligned.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Aligned([u8; 128]);

impl Node {
    /// Copies the arguments.
    ///
    /// # Safety
    /// The kernel came from the library, and `arguments` holds a pointer to a value of its type for each parameter.
    pub(super) unsafe fn new(
        library: &Library,
        kernel: *const c_void,
        [grid, block]: [[u32; 3]; 2],
        shared: u32,
        cooperative: bool,
        arguments: *mut *mut c_void,
    ) -> Node {
        // SAFETY: the caller vouches for the kernel.
        let sizes = unsafe { library.parameters(kernel) };
        let copy = |(i, size): (usize, &usize)| {
            let mut bytes = vec![Aligned([0; 128]); size.div_ceil(128)];
            // SAFETY: the caller vouches for the arguments, and there is room for as many bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    (*arguments.add(i)).cast::<u8>(),
                    bytes.as_mut_ptr().cast(),
                    *size,
                );
            }
            bytes
        };
        let arguments = sizes.iter().enumerate().map(copy).collect();
        Node { kernel, grid, block, shared, cooperative, arguments }
    }

    /// Pointers to the arguments, valid as long as `self`; nobody writes through them.
    pub(super) fn arguments(&self) -> Vec<*mut c_void> {
        self.arguments.iter().map(|bytes| bytes.as_ptr().cast_mut().cast()).collect()
    }
}

/// Streams and graphs by their handles.
pub(super) struct Graphs {
    streams: BTreeMap<usize, Stream>,
    graphs: BTreeMap<usize, Arc<Vec<Node>>>,
    last: usize,
}

/// A stream, which does at once what it is told unless that is recorded.
#[derive(Default)]
struct Stream {
    recorded: Option<Vec<Node>>,
    /// Something was done that cannot be recorded.
    invalid: bool,
}

impl Graphs {
    pub(super) const fn new() -> Graphs {
        Graphs { streams: BTreeMap::new(), graphs: BTreeMap::new(), last: 0x1000 }
    }

    fn handle(&mut self) -> usize {
        self.last += 0x10;
        self.last
    }

    pub(super) fn new_stream(&mut self) -> usize {
        let handle = self.handle();
        self.streams.insert(handle, Stream::default());
        handle
    }

    pub(super) fn drop_stream(&mut self, stream: usize) -> u32 {
        if self.streams.remove(&stream).is_some() { SUCCESS } else { INVALID_HANDLE }
    }

    /// For work that is done at once: whether there is such a stream, and it does not record.
    pub(super) fn not_recording(&mut self, stream: usize) -> u32 {
        match self.streams.get_mut(&stream) {
            None => INVALID_HANDLE,
            Some(stream) if stream.recorded.is_some() => {
                stream.invalid = true;
                CAPTURE_UNSUPPORTED
            }
            Some(_) => SUCCESS,
        }
    }

    /// Where a stream that records puts launches; `None` if it does them at once.
    pub(super) fn recorded(&mut self, stream: usize) -> Result<Option<&mut Vec<Node>>, u32> {
        self.streams.get_mut(&stream).map(|stream| stream.recorded.as_mut()).ok_or(INVALID_HANDLE)
    }

    pub(super) fn begin(&mut self, stream: usize) -> u32 {
        match self.streams.get_mut(&stream) {
            None => INVALID_HANDLE,
            Some(Stream { recorded: Some(_), .. }) => ILLEGAL_STATE,
            Some(stream) => {
                *stream = Stream { recorded: Some(vec![]), invalid: false };
                SUCCESS
            }
        }
    }

    /// The handle of a graph of what was recorded.
    pub(super) fn end(&mut self, stream: usize) -> Result<usize, u32> {
        let Some(stream) = self.streams.get_mut(&stream) else { return Err(INVALID_HANDLE) };
        let Stream { recorded, invalid } = std::mem::take(stream);
        match recorded {
            None => Err(ILLEGAL_STATE),
            Some(_) if invalid => Err(CAPTURE_INVALIDATED),
            Some(nodes) => {
                let handle = self.handle();
                self.graphs.insert(handle, Arc::new(nodes));
                Ok(handle)
            }
        }
    }

    /// The handle of a copy that can be launched.
    pub(super) fn instantiate(&mut self, graph: usize) -> Result<usize, u32> {
        let Some(nodes) = self.graphs.get(&graph).cloned() else { return Err(INVALID_HANDLE) };
        let handle = self.handle();
        self.graphs.insert(handle, nodes);
        Ok(handle)
    }

    pub(super) fn nodes(&self, graph: usize) -> Option<Arc<Vec<Node>>> {
        self.graphs.get(&graph).cloned()
    }

    pub(super) fn drop_graph(&mut self, graph: usize) -> u32 {
        if self.graphs.remove(&graph).is_some() { SUCCESS } else { INVALID_HANDLE }
    }

    /// How many graphs there are, those that can be launched among them.
    pub(super) fn count(&self) -> usize {
        self.graphs.len()
    }
}

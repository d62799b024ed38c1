//! The driver that stands in for NVIDIA's: one GPU, whose memory is the host's and whose work is done when a call returns.

use super::graphs::Node;
use super::library::library;
use super::state::{INVALID_VALUE, LAUNCH_FAILED, SUCCESS, State, state};
use super::tensor_map;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};

const INVALID_CONTEXT: u32 = 201;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;
const ILLEGAL_ADDRESS: u32 = 700;
const NOT_SUPPORTED: u32 = 801;

const COOPERATIVE_LAUNCH_TOO_LARGE: u32 = 720;

/// Few, so that grids of small tests go round more than once.
const MULTIPROCESSORS: i32 = 4;

const CONTEXT: *mut c_void = ptr::without_provenance_mut(0x10);
const MODULE: *mut c_void = ptr::without_provenance_mut(0x30);
const EVENT: *mut c_void = ptr::without_provenance_mut(0x40);

/// Defines the functions, each of which answers a code, and `lookup`, which finds them by name.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) $body:block)*) => {
        $(
            #[allow(non_snake_case, clippy::too_many_arguments)]
            unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                match state().fails {
                    Some((name, code)) if name == stringify!($name) => return code,
                    _ => {}
                }
                $body
            }
        )*

        /// The emulated driver's function of this name: for drivers of one's own that change some of them.
        pub fn driver_function(name: &CStr) -> Option<NonNull<c_void>> {
            let address = match name.to_str().ok()? {
                $(stringify!($name) => $name as *mut c_void,)*
                _ => return None,
            };
            NonNull::new(address)
        }
    };
}

// The callers keep the driver's rules, so pointers to results can be written, and host memory is as long as they say. What they say of
// device memory is checked.
functions! {
    cuDriverGetVersion(version: *mut i32) {
        // SAFETY: the caller's place for the result.
        unsafe { version.write(13_000) };
        SUCCESS
    }
    cuInit(flags: u32) {
        if flags == 0 { SUCCESS } else { INVALID_VALUE }
    }
    cuDeviceGetCount(count: *mut i32) {
        // SAFETY: the caller's place for the result.
        unsafe { count.write(1) };
        SUCCESS
    }
    cuDeviceGet(device: *mut i32, ordinal: i32) {
        // SAFETY: the caller's place for the result.
        unsafe { device.write(ordinal) };
        if ordinal == 0 { SUCCESS } else { 101 }
    }
    cuDeviceGetName(name: *mut c_char, length: i32, _device: i32) {
        let bytes = c"Emulated GPU".to_bytes_with_nul();
        if bytes.len() > length as usize {
            return INVALID_VALUE;
        }
        // SAFETY: device memory was checked, and the caller's host memory is as long as it says.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), name.cast(), bytes.len()) };
        SUCCESS
    }
    cuDeviceGetAttribute(value: *mut i32, attribute: i32, _device: i32) {
        let answer = match attribute {
            1 => 1024,         // threads a block
            8 => 48 << 10,     // shared memory a block
            10 => 32,          // warp
            16 => MULTIPROCESSORS,
            75 => state().capability.0,
            76 => state().capability.1,
            95 => 1,           // cooperative launches
            97 => 232_448,     // shared memory a block, opted in
            _ => return INVALID_VALUE,
        };
        // SAFETY: the caller's place for the result.
        unsafe { value.write(answer) };
        SUCCESS
    }
    cuDeviceTotalMem_v2(bytes: *mut usize, _device: i32) {
        // SAFETY: the caller's place for the result.
        unsafe { bytes.write(state().memory().0) };
        SUCCESS
    }
    cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _device: i32) {
        // SAFETY: the caller's place for the result.
        unsafe { context.write(CONTEXT) };
        SUCCESS
    }
    cuDevicePrimaryCtxRelease_v2(_device: i32) {
        SUCCESS
    }
    cuCtxSetCurrent(context: *mut c_void) {
        if context == CONTEXT { SUCCESS } else { INVALID_CONTEXT }
    }
    cuCtxSynchronize() {
        SUCCESS
    }
    cuGetErrorName(_code: u32, _name: *mut *const c_char) {
        INVALID_VALUE
    }
    cuStreamCreate(stream: *mut *mut c_void, flags: u32) {
        // Streams that wait for stream 0 are not wanted.
        if flags != 1 {
            return INVALID_VALUE;
        }
        // SAFETY: the caller's place for the result.
        unsafe { stream.write(ptr::without_provenance_mut(state().graphs.new_stream())) };
        SUCCESS
    }
    cuStreamQuery(stream: *mut c_void) {
        state().graphs.not_recording(stream.addr())
    }
    cuStreamSynchronize(stream: *mut c_void) {
        state().graphs.not_recording(stream.addr())
    }
    cuStreamDestroy_v2(stream: *mut c_void) {
        state().graphs.drop_stream(stream.addr())
    }
    cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, _flags: u32) {
        if event == EVENT { state().graphs.not_recording(stream.addr()) } else { INVALID_HANDLE }
    }
    cuEventCreate(event: *mut *mut c_void, _flags: u32) {
        // SAFETY: the caller's place for the result.
        unsafe { event.write(EVENT) };
        SUCCESS
    }
    cuEventRecord(event: *mut c_void, stream: *mut c_void) {
        if event == EVENT { state().graphs.not_recording(stream.addr()) } else { INVALID_HANDLE }
    }
    cuEventQuery(event: *mut c_void) {
        if event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuEventSynchronize(event: *mut c_void) {
        if event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuEventDestroy_v2(event: *mut c_void) {
        if event == EVENT { SUCCESS } else { INVALID_HANDLE }
    }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let (all, left) = state().memory();
        // SAFETY: the caller's places for the results.
        unsafe {
            free.write(left);
            total.write(all);
        }
        SUCCESS
    }
    cuMemAlloc_v2(address: *mut u64, bytes: usize) {
        match state().allocate(bytes) {
            // SAFETY: the caller's place for the result.
            Ok(block) => unsafe { address.write(block) },
            Err(code) => return code,
        }
        SUCCESS
    }
    cuMemHostAlloc(memory: *mut *mut u8, bytes: usize, _flags: u32) {
        match state().allocate_host(bytes) {
            // SAFETY: the caller's place for the result.
            Ok(block) => unsafe { memory.write(block) },
            Err(code) => return code,
        }
        SUCCESS
    }
    cuMemFreeHost(memory: *mut u8) {
        state().free_host(memory)
    }
    cuMemFree_v2(address: u64) {
        state().free(address)
    }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const u8, bytes: usize, stream: *mut c_void) {
        match state().graphs.not_recording(stream.addr()) {
            SUCCESS => {}
            code => return code,
        }
        if !state().holds(to, bytes) {
            return ILLEGAL_ADDRESS;
        }
        // SAFETY: device memory was checked, and the caller's host memory is as long as it says.
        unsafe { ptr::copy_nonoverlapping(from, ptr::with_exposed_provenance_mut(to as usize), bytes) };
        SUCCESS
    }
    cuMemcpyDtoHAsync_v2(to: *mut u8, from: u64, bytes: usize, stream: *mut c_void) {
        match state().graphs.not_recording(stream.addr()) {
            SUCCESS => {}
            code => return code,
        }
        if !state().holds(from, bytes) {
            return ILLEGAL_ADDRESS;
        }
        // SAFETY: device memory was checked, and the caller's host memory is as long as it says.
        unsafe { ptr::copy_nonoverlapping(ptr::with_exposed_provenance(from as usize), to, bytes) };
        SUCCESS
    }
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void) {
        match state().graphs.not_recording(stream.addr()) {
            SUCCESS => {}
            code => return code,
        }
        if !state().holds(to, bytes) || !state().holds(from, bytes) {
            return ILLEGAL_ADDRESS;
        }
        let from: *const u8 = ptr::with_exposed_provenance(from as usize);
        // SAFETY: device memory was checked, and the caller's host memory is as long as it says.
        unsafe { ptr::copy(from, ptr::with_exposed_provenance_mut(to as usize), bytes) };
        SUCCESS
    }
    cuModuleLoadData(module: *mut *mut c_void, _image: *const c_void) {
        // SAFETY: the caller's place for the result.
        unsafe { module.write(MODULE) };
        SUCCESS
    }
    cuModuleUnload(module: *mut c_void) {
        if module == MODULE { SUCCESS } else { INVALID_HANDLE }
    }
    cuModuleGetFunction(function: *mut *const c_void, module: *mut c_void, name: *const c_char) {
        if module != MODULE {
            return INVALID_HANDLE;
        }
        // SAFETY: the caller's name is a C string.
        let name = unsafe { CStr::from_ptr(name) };
        match library().and_then(|library| library.find(name)) {
            // SAFETY: the caller's place for the result.
            Some(kernel) => unsafe { function.write(kernel) },
            None => return NOT_FOUND,
        }
        SUCCESS
    }
    cuFuncSetAttribute(_function: *const c_void, attribute: i32, value: i32) {
        // The most dynamic shared memory of a launch.
        if attribute == 8 && (0..=232_448).contains(&value) { SUCCESS } else { INVALID_VALUE }
    }
    cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: *mut i32, _function: *const c_void, threads: i32, shared: usize) {
        let Ok(threads) = u32::try_from(threads) else { return INVALID_VALUE };
        // SAFETY: the caller's place for the result.
        unsafe { blocks.write(resident(threads, shared)) };
        SUCCESS
    }
    cuTensorMapEncodeTiled(
        map: *mut tensor_map::Fields, element: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64,
        box_dims: *const u32, element_strides: *const u32, interleave: u32, swizzle: u32, promotion: u32, fill: u32
    ) {
        if state().capability < (9, 0) {
            return NOT_SUPPORTED;
        }
        let numbers = [element, rank, interleave, swizzle, promotion, fill];
        // SAFETY: the caller's arrays are as long as its rank says, and its map can be written.
        unsafe { tensor_map::encode_raw(map, numbers, address, dims, strides, box_dims, element_strides) }
    }
    cuTensorMapEncodeIm2col(
        map: *mut tensor_map::Fields, element: u32, rank: u32, address: u64, dims: *const u64, strides: *const u64,
        lower: *const i32, upper: *const i32, channels: u32, pixels: u32, element_strides: *const u32, interleave: u32,
        swizzle: u32, promotion: u32, fill: u32
    ) {
        if state().capability < (9, 0) {
            return NOT_SUPPORTED;
        }
        let numbers = [element, rank, interleave, swizzle, promotion, fill];
        // SAFETY: the caller's arrays are as long as its rank says, and its map can be written.
        unsafe {
            tensor_map::encode_im2col_raw(
                map, numbers, address, dims, strides, [lower, upper], [channels, pixels], element_strides,
            )
        }
    }
    cuLaunchKernel(
        kernel: *const c_void, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: *mut c_void,
        arguments: *mut *mut c_void, extra: *mut c_void
    ) {
        if !extra.is_null() {
            return INVALID_VALUE;
        }
        // SAFETY: the caller vouches for the kernel and its arguments.
        unsafe { launch(kernel, [[gx, gy, gz], [bx, by, bz]], shared, false, stream, arguments) }
    }
    cuLaunchCooperativeKernel(
        kernel: *const c_void, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: *mut c_void,
        arguments: *mut *mut c_void
    ) {
        let most = u64::from(resident(bx, shared as usize).unsigned_abs()) * MULTIPROCESSORS as u64;
        if u64::from(gx) * u64::from(gy) * u64::from(gz) > most {
            return COOPERATIVE_LAUNCH_TOO_LARGE;
        }
        // SAFETY: the caller vouches for the kernel and its arguments.
        unsafe { launch(kernel, [[gx, gy, gz], [bx, by, bz]], shared, true, stream, arguments) }
    }
    cuStreamBeginCapture_v2(stream: *mut c_void, mode: u32) {
        if mode <= 2 { state().graphs.begin(stream.addr()) } else { INVALID_VALUE }
    }
    cuStreamEndCapture(stream: *mut c_void, graph: *mut *mut c_void) {
        let ended = state().graphs.end(stream.addr());
        // SAFETY: the caller's place for the result.
        unsafe { graph.write(ptr::without_provenance_mut(ended.unwrap_or(0))) };
        ended.err().unwrap_or(SUCCESS)
    }
    cuGraphInstantiateWithFlags(exec: *mut *mut c_void, graph: *mut c_void, flags: u64) {
        if flags != 0 {
            return INVALID_VALUE;
        }
        match state().graphs.instantiate(graph.addr()) {
            // SAFETY: the caller's place for the result.
            Ok(handle) => unsafe { exec.write(ptr::without_provenance_mut(handle)) },
            Err(code) => return code,
        }
        SUCCESS
    }
    cuGraphDestroy(graph: *mut c_void) {
        state().graphs.drop_graph(graph.addr())
    }
    cuGraphExecDestroy(exec: *mut c_void) {
        state().graphs.drop_graph(exec.addr())
    }
    cuGraphLaunch(exec: *mut c_void, stream: *mut c_void) {
        let mut state = state();
        let code = state.graphs.not_recording(stream.addr());
        let Some(nodes) = state.graphs.nodes(exec.addr()) else { return INVALID_HANDLE };
        if code != SUCCESS {
            return code;
        }
        for node in nodes.iter() {
            // SAFETY: whoever recorded the node vouched for it, and for what its arguments lead to.
            let code = unsafe { run(&mut state, node.kernel, [node.grid, node.block], node.shared, node.cooperative, node.arguments().as_mut_ptr()) };
            if code != SUCCESS {
                return code;
            }
        }
        SUCCESS
    }
}

/// How many blocks a multiprocessor holds: as many as have their threads and their dynamic shared memory.
fn resident(threads: u32, shared: usize) -> i32 {
    const THREADS: u32 = 2048;
    const SHARED: usize = 233_472;
    let by_shared = i32::try_from(SHARED / (shared + 1024)).unwrap_or(i32::MAX);
    i32::try_from(THREADS / threads.max(32)).unwrap_or(i32::MAX).min(by_shared)
}

/// Runs or records a grid.
///
/// # Safety
/// The kernel came from `cuModuleGetFunction`, and the arguments are its.
unsafe fn launch(
    kernel: *const c_void,
    extents: [[u32; 3]; 2],
    shared: u32,
    cooperative: bool,
    stream: *mut c_void,
    arguments: *mut *mut c_void,
) -> u32 {
    let mut state = state();
    let Some(library) = library() else { return NOT_FOUND };
    match state.graphs.recorded(stream.addr()) {
        Err(code) => code,
        // SAFETY: passed on.
        Ok(None) => unsafe { run(&mut state, kernel, extents, shared, cooperative, arguments) },
        Ok(Some(nodes)) => {
            // SAFETY: passed on.
            nodes.push(unsafe { Node::new(library, kernel, extents, shared, cooperative, arguments) });
            SUCCESS
        }
    }
}

/// Runs a grid; one at a time, as the machine has one order.
///
/// # Safety
/// As for [`launch`].
unsafe fn run(
    state: &mut State,
    kernel: *const c_void,
    [grid, block]: [[u32; 3]; 2],
    shared: u32,
    cooperative: bool,
    arguments: *mut *mut c_void,
) -> u32 {
    let Some(library) = library() else { return NOT_FOUND };
    state.launches = state.launches.wrapping_add(1);
    let (seed, shared) = (state.launches, shared as usize);
    // SAFETY: passed on.
    match unsafe { library.launch(kernel, grid, block, shared, cooperative, seed, arguments) } {
        Ok(()) => SUCCESS,
        Err(report) => {
            state.report = Some(report);
            LAUNCH_FAILED
        }
    }
}

//! The C interface: see `kit/gradus.py` beside this crate for its use from Python.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_double, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{ptr, slice};

use gradus::cuda::own;
use gradus::tensor::Layout;
use gradus::{DType, Device, Error, Result, Tensor};

use crate::models;
use crate::ops::{self, Run};

/// Dtypes by the numbers that callers use.
const DTYPES: [DType; 9] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::U8,
    DType::Bool,
    DType::I8,
];

struct State {
    device: Option<Device>,
    next: i64,
    tensors: BTreeMap<i64, Tensor>,
    cases: BTreeMap<i64, Case>,
}

/// Computations that take turns, and what the last one computed.
struct Case {
    sets: Vec<Run>,
    turn: usize,
    results: Vec<Tensor>,
}

static STATE: Mutex<State> =
    Mutex::new(State { device: None, next: 1, tensors: BTreeMap::new(), cases: BTreeMap::new() });

thread_local! {
    static WRONG: RefCell<CString> = RefCell::default();
}

impl State {
    fn device(&self) -> Result<&Device> {
        self.device.as_ref().ok_or_else(|| Error::argument("gradus", "call gradus_open first"))
    }

    fn tensor(&self, handle: i64) -> Result<&Tensor> {
        self.tensors
            .get(&handle)
            .ok_or_else(|| Error::argument("gradus", format!("there is no tensor {handle}")))
    }

    fn case(&mut self, handle: i64) -> Result<&mut Case> {
        self.cases
            .get_mut(&handle)
            .ok_or_else(|| Error::argument("gradus", format!("there is no case {handle}")))
    }

    fn number(&mut self) -> i64 {
        self.next += 1;
        self.next - 1
    }

    fn keep(&mut self, tensor: Tensor) -> i64 {
        let handle = self.number();
        self.tensors.insert(handle, tensor);
        handle
    }

    fn keep_case(&mut self, sets: Vec<Run>) -> i64 {
        let handle = self.number();
        self.cases.insert(handle, Case { sets, turn: 0, results: vec![] });
        handle
    }
}

/// Runs `f`; an error or a panic becomes 0, and what [`gradus_error`] says.
fn answer(f: impl FnOnce(&mut State) -> Result<i64>) -> i64 {
    let mut state: MutexGuard<State> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let outcome = catch_unwind(AssertUnwindSafe(|| f(&mut state)));
    let wrong = match outcome {
        Ok(Ok(handle)) => return handle,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "panicked".to_owned(),
    };
    WRONG.with_borrow_mut(|text| *text = CString::new(wrong.replace('\0', " ")).unwrap_or_default());
    0
}

/// # Safety
/// `text` is a C string.
unsafe fn text<'a>(text: *const c_char) -> &'a str {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or_default()
}

/// # Safety
/// `count` elements begin at `first`, or `count` is not above 0.
unsafe fn array<'a, T>(first: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if count > 0 => unsafe { slice::from_raw_parts(first, count) },
        _ => &[],
    }
}

fn dtype(code: c_int) -> Result<DType> {
    let found = usize::try_from(code).ok().and_then(|code| DTYPES.get(code)).copied();
    found.ok_or_else(|| Error::argument("gradus", format!("no dtype has the number {code}")))
}

fn sizes(numbers: &[i64]) -> Vec<usize> {
    numbers.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect()
}

/// What went wrong in the last call of this thread that answered 0. Valid until the next one.
#[unsafe(no_mangle)]
pub extern "C" fn gradus_error() -> *const c_char {
    WRONG.with_borrow(|text| text.as_ptr())
}

/// Opens the device that everything below is on: `cuda:0`, `emulated`, `cpu`. Answers 1.
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradus_open(name: *const c_char) -> i64 {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    answer(|state| {
        state.device = Some(gradus::device(name)?);
        Ok(1)
    })
}

/// The stream of all work, for `torch.cuda.ExternalStream`; null where there is none.
#[unsafe(no_mangle)]
pub extern "C" fn gradus_stream() -> *const c_void {
    let state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let stream = state.device.as_ref().and_then(|device| own::stream(device).ok());
    stream.map_or(ptr::null(), |stream| stream.as_raw().cast_const().cast())
}

/// Waits for all work. Answers 1.
#[unsafe(no_mangle)]
pub extern "C" fn gradus_synchronize() -> i64 {
    answer(|state| state.device()?.synchronize().map(|()| 1))
}

/// A tensor over memory of the GPU that the caller has allocated. Strides count elements.
///
/// # Safety
/// The memory is there, as [`own::lent`] wants it, until the tensor and what was made of it are freed; `rank` sizes and strides follow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradus_lent(
    address: u64,
    code: c_int,
    rank: c_int,
    dims: *const i64,
    strides: *const i64,
) -> i64 {
    // SAFETY: the caller's promise.
    let (dims, strides) = unsafe { (array(dims, rank), array(strides, rank)) };
    answer(|state| {
        let strides: Vec<isize> = strides.iter().map(|&s| s as isize).collect();
        let layout = Layout::strided(sizes(dims), &strides, 0)?;
        // SAFETY: the caller's promise.
        let tensor = unsafe { own::lent(state.device()?, address, dtype(code)?, layout)? };
        Ok(state.keep(tensor))
    })
}

/// A tensor of `bytes` bytes of host memory, in row-major order.
///
/// # Safety
/// As many bytes begin at `host`, and `rank` sizes at `dims`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradus_upload(
    host: *const u8,
    bytes: i64,
    code: c_int,
    rank: c_int,
    dims: *const i64,
) -> i64 {
    // SAFETY: the caller's promise; a null pointer is not made a slice of.
    let (dims, host) = unsafe {
        let bytes = if host.is_null() { 0 } else { usize::try_from(bytes).unwrap_or(0) };
        (array(dims, rank), if bytes == 0 { &[] } else { slice::from_raw_parts(host, bytes) })
    };
    answer(|state| {
        let (dtype, dims) = (dtype(code)?, sizes(dims));
        if dims.iter().product::<usize>() * dtype.size() != host.len() {
            return Err(Error::argument(
                "gradus_upload",
                format!("{} bytes are not {dims:?} of {dtype}", host.len()),
            ));
        }
        let tensor = state.device()?.backend().upload(host, dtype, dims.into())?;
        Ok(state.keep(tensor))
    })
}

/// Copies the elements of a tensor in row-major order as `f32` to `host`, of which there must be `count`. Answers 1.
///
/// # Safety
/// `count` floats can be written at `host`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradus_download(tensor: i64, host: *mut f32, count: i64) -> i64 {
    answer(|state| {
        let values = state.tensor(tensor)?.to_dtype(DType::F32)?.to_vec::<f32>()?;
        if values.len() as i64 != count {
            return Err(Error::argument(
                "gradus_download",
                format!("the tensor has {} elements", values.len()),
            ));
        }
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), host, values.len()) };
        Ok(1)
    })
}

/// Puts a copy of the elements of a tensor, in row-major order as `f32`, into the queue: to memory of the GPU at `address`, with room for
/// `count`. Answers 1.
///
/// # Safety
/// The memory is there, as [`own::lent`] wants it, until the copy is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradus_copy(tensor: i64, address: u64, count: i64) -> i64 {
    answer(|state| {
        let values = state.tensor(tensor)?.to_dtype(DType::F32)?;
        if values.numel() as i64 != count {
            let message = format!("the tensor has {} elements", values.numel());
            return Err(Error::argument("gradus_copy", message));
        }
        let all = Layout::contiguous(values.shape());
        // SAFETY: the caller's promise.
        let there = unsafe { own::lent(values.device(), address, DType::F32, all)? };
        // In place, as nobody shares it.
        values.device().backend().write(there, &all, &values).map(|_| 1)
    })
}

/// How many elements a tensor has, and 1.
#[unsafe(no_mangle)]
pub extern "C" fn gradus_count(tensor: i64) -> i64 {
    answer(|state| Ok(state.tensor(tensor)?.numel() as i64 + 1))
}

/// Forgets a tensor or a case.
#[unsafe(no_mangle)]
pub extern "C" fn gradus_free(handle: i64) {
    answer(|state| {
        state.tensors.remove(&handle);
        state.cases.remove(&handle);
        Ok(1)
    });
}

/// The op `name` on `sets` sets of `each` tensors, which take turns, with the numbers that it takes ([`ops::prepare`]).
///
/// # Safety
/// `name` is a C string; `sets * each` handles and `count` numbers follow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradus_case(
    name: *const c_char,
    tensors: *const i64,
    sets: c_int,
    each: c_int,
    numbers: *const c_double,
    count: c_int,
) -> i64 {
    // SAFETY: the caller's promise.
    let (name, tensors, numbers) =
        unsafe { (text(name), array(tensors, sets.saturating_mul(each)), array(numbers, count)) };
    answer(|state| {
        let prepared = tensors.chunks(each.unsigned_abs().max(1) as usize).map(|set| {
            let inputs = set.iter().map(|&t| state.tensor(t).cloned()).collect::<Result<Vec<_>>>()?;
            ops::prepare(name, inputs, numbers)
        });
        let sets = prepared.collect::<Result<Vec<_>>>()?;
        if sets.is_empty() {
            return Err(Error::argument("gradus_case", "a case has at least one set of tensors"));
        }
        Ok(state.keep_case(sets))
    })
}

/// A step of training of a model ([`models::prepare`]).
///
/// # Safety
/// `name` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gradus_model(name: *const c_char, code: c_int, n: c_int, side: c_int) -> i64 {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    answer(|state| {
        let (n, side) = (n.unsigned_abs() as usize, side.unsigned_abs() as usize);
        let step = models::prepare(name, state.device()?, dtype(code)?, n, side)?;
        Ok(state.keep_case(vec![step]))
    })
}

/// Puts a case's computation into the queue so many times, its sets in turn. Answers 1.
#[unsafe(no_mangle)]
pub extern "C" fn gradus_run(case: i64, times: c_int) -> i64 {
    answer(|state| {
        let case = state.case(case)?;
        for _ in 0..times {
            let set = case.turn % case.sets.len();
            case.turn += 1;
            // Memory of the results before is free for the next ones.
            case.results.clear();
            case.results = case.sets[set]()?;
        }
        Ok(1)
    })
}

/// A tensor of what a case has computed last.
#[unsafe(no_mangle)]
pub extern "C" fn gradus_result(case: i64, index: c_int) -> i64 {
    answer(|state| {
        let results = &state.case(case)?.results;
        let found = usize::try_from(index).ok().and_then(|index| results.get(index)).cloned();
        let tensor =
            found.ok_or_else(|| Error::argument("gradus_result", format!("there is no result {index}")))?;
        Ok(state.keep(tensor))
    })
}

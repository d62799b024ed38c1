//! Op name of a record -> the call of the public API that it means.

mod conv;
mod elementwise;
mod index;
mod loss;
mod norm;
mod reduce;
mod rnn;
mod second;
mod shape;
mod train;

use crate::array::{Array, Values};
use crate::device::device;
use crate::format::Args;
use crate::judge::Precision;
use gradus::autograd::Var;
use gradus::tensor::{DType, Error, Tensor};

/// What an op is replayed on.
pub(crate) type Value = Var;

/// Why an op has no outputs.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library's own error.
    Error(Error),
    /// The signature has no way to say it: a negative size, an empty list of operands.
    Unsayable,
    /// The library has no such op or option.
    NotCovered(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

impl From<std::num::TryFromIntError> for Failure {
    fn from(_: std::num::TryFromIntError) -> Failure {
        Failure::Unsayable
    }
}

/// The outputs of an op.
pub(crate) type Answer = Result<Vec<Value>, Failure>;

/// A call of the public API.
pub(crate) type Op = fn(&Inputs, &Args) -> Answer;

/// The inputs of an op by argument name, in the order of the record.
#[derive(Default)]
pub(crate) struct Inputs(pub(crate) Vec<(String, Value)>);

impl Inputs {
    pub(crate) fn opt(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Panics when the record lacks it: that is an error of the record.
    pub(crate) fn get(&self, name: &str) -> &Value {
        self.opt(name).unwrap_or_else(|| panic!("the record has no input {name}"))
    }

    /// The value of an input that is not differentiated: indices, masks, weights of losses.
    pub(crate) fn tensor(&self, name: &str) -> &Tensor {
        self.get(name).value()
    }

    pub(crate) fn x(&self) -> &Value {
        self.get("x")
    }

    /// The inputs `x0, x1, ..` of a prefix, in order.
    pub(crate) fn numbered(&self, prefix: &str) -> Vec<Value> {
        (0..).map_while(|n| self.opt(&format!("{prefix}{n}")).cloned()).collect()
    }
}

/// The call behind an op name, if the library has one.
pub(crate) fn lookup(name: &str) -> Option<Op> {
    let families = [
        elementwise::lookup,
        reduce::lookup,
        shape::lookup,
        index::lookup,
        conv::lookup,
        norm::lookup,
        loss::lookup,
        rnn::lookup,
        train::lookup,
        second::lookup,
    ];
    families.iter().find_map(|f| f(name))
}

/// Runs one op.
pub(crate) fn run(name: &str, inputs: &Inputs, args: &Args) -> Answer {
    match (name, lookup(name)) {
        ("program", _) => program(inputs, args),
        (_, Some(op)) => op(inputs, args),
        (_, None) => Err(Failure::NotCovered(name.to_owned())),
    }
}

/// Runs the steps of a program over named values.
fn program(inputs: &Inputs, args: &Args) -> Answer {
    let mut values = Inputs(inputs.0.clone());
    for step in args.list("steps") {
        let names = step.nested("in");
        let pairs = names.0.as_object().into_iter().flatten();
        let step_inputs =
            pairs.map(|(arg, value)| (arg.clone(), values.get(value.as_str().unwrap_or("")).clone()));
        let outputs = run(step.str("op"), &Inputs(step_inputs.collect()), &step.nested("args"))?;
        values.0.extend(step.names("out").into_iter().zip(outputs));
    }
    Ok(args.names("results").iter().map(|name| values.get(name).clone()).collect())
}

/// A recorded tensor as the library's, floats in the precision of the replay.
pub(crate) fn upload(array: &Array, precision: Precision) -> Result<Tensor, Error> {
    let (shape, cpu) = (array.shape.as_slice(), device());
    match &array.values {
        Values::F32(v) if precision == Precision::F32 => Tensor::from_slice(v, shape, cpu),
        Values::F32(_) | Values::F64(_) => Tensor::from_slice(&array.to_f64(), shape, cpu),
        Values::I64(v) => Tensor::from_slice(v, shape, cpu),
        Values::I32(v) => Tensor::from_slice(v, shape, cpu),
        Values::U8(v) => Tensor::from_slice(v, shape, cpu),
        Values::Bool(v) => Tensor::from_slice(v, shape, cpu),
    }
}

/// The library's tensor as an array that is judged.
pub(crate) fn download(tensor: &Tensor) -> Result<Array, Error> {
    let values = match tensor.dtype() {
        dtype if dtype.is_float() => Values::F64(tensor.to_dtype(DType::F64)?.to_vec()?),
        DType::Bool => Values::Bool(tensor.to_vec()?),
        _ => Values::I64(tensor.to_dtype(DType::I64)?.to_vec()?),
    };
    Ok(Array { shape: tensor.dims().to_vec(), values })
}

/// A single dim, possibly negative.
fn dim(args: &Args, key: &str) -> isize {
    args.int(key) as isize
}

/// Integers as the signed numbers that dims are.
fn signed(ints: &[i64]) -> Vec<isize> {
    ints.iter().map(|&i| i as isize).collect()
}

/// Integers as sizes.
fn sizes(ints: &[i64]) -> Result<Vec<usize>, Failure> {
    Ok(ints.iter().map(|&i| usize::try_from(i)).collect::<Result<_, _>>()?)
}

//! New tensors.

use super::Tensor;
use crate::backend::Distribution;
use crate::{DType, Device, Element, Error, Generator, Number, Options, Result, Scalar, Shape};

impl Tensor {
    /// A tensor of these elements, in row-major order.
    ///
    /// # Errors
    /// When their number is not that of the shape.
    pub fn from_slice<T: Element>(data: &[T], shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
        let shape = shape.into().checked("from_slice")?;
        if data.len() != shape.numel() {
            return Err(Error::argument(
                "from_slice",
                format!("shape {shape} has {} elements, got {}", shape.numel(), data.len()),
            ));
        }
        let stored: Vec<T::Storage> = data.iter().map(|&x| x.store()).collect();
        device.backend().upload(bytemuck::cast_slice(&stored), T::Storage::DTYPE, shape)
    }

    /// As [`from_slice`](Self::from_slice), from a vector.
    pub fn from_vec<T: Element>(data: Vec<T>, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
        Tensor::from_slice(&data, shape, device)
    }

    /// A tensor of the elements that these bytes are (native byte order, row-major). A bool is 1 for any byte but 0.
    ///
    /// # Errors
    /// When there are too many or too few.
    pub fn from_bytes(
        bytes: &[u8],
        dtype: DType,
        shape: impl Into<Shape>,
        device: &Device,
    ) -> Result<Tensor> {
        let shape = shape.into().checked("from_bytes")?;
        let expected = shape.numel() * dtype.size();
        if bytes.len() != expected {
            return Err(Error::argument(
                "from_bytes",
                format!("{dtype} {shape} takes {expected} bytes, got {}", bytes.len()),
            ));
        }
        if dtype == DType::Bool && bytes.iter().any(|&b| b > 1) {
            let bits: Vec<u8> = bytes.iter().map(|&b| (b != 0) as u8).collect();
            return device.backend().upload(&bits, dtype, shape);
        }
        device.backend().upload(bytes, dtype, shape)
    }

    /// A tensor `[]` of one number, of the number's default dtype: `float32`, `int64` or `bool`.
    pub fn scalar(value: impl Into<Number>, device: &Device) -> Result<Tensor> {
        let value = value.into();
        let dtype = match value {
            Number::Bool(_) => DType::Bool,
            Number::Int(_) => DType::I64,
            Number::Float(_) => DType::F32,
        };
        Tensor::full((), value, (dtype, device))
    }

    /// Every element `value`.
    pub fn full<'a>(
        shape: impl Into<Shape>,
        value: impl Into<Number>,
        options: impl Into<Options<'a>>,
    ) -> Result<Tensor> {
        let Options { dtype, device } = options.into();
        device.backend().full(shape.into().checked("full")?, dtype, value.into())
    }

    /// Every element 0.
    pub fn zeros<'a>(shape: impl Into<Shape>, options: impl Into<Options<'a>>) -> Result<Tensor> {
        Tensor::full(shape, 0, options)
    }

    /// Every element 1.
    pub fn ones<'a>(shape: impl Into<Shape>, options: impl Into<Options<'a>>) -> Result<Tensor> {
        Tensor::full(shape, 1, options)
    }

    /// Zeros of this tensor's shape, dtype and device.
    pub fn zeros_like(&self) -> Result<Tensor> {
        self.full_like(0)
    }

    /// Ones of this tensor's shape, dtype and device.
    pub fn ones_like(&self) -> Result<Tensor> {
        self.full_like(1)
    }

    /// `value` everywhere, of this tensor's shape, dtype and device.
    pub fn full_like(&self, value: impl Into<Number>) -> Result<Tensor> {
        self.backend().full(self.shape(), self.dtype(), value.into())
    }

    /// `start, start + step, …` up to and without `end`.
    ///
    /// # Errors
    /// When `step` is 0 or leads away from `end`, or a bound is not finite.
    ///
    /// ```
    /// use gradus_tensor::{DType, Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// assert_eq!(Tensor::arange(0, 10, 4, (DType::I64, &Device::cpu()))?.to_vec::<i64>()?, [0, 4, 8]);
    /// # Ok(()) }
    /// ```
    pub fn arange<'a>(
        start: impl Into<Number>,
        end: impl Into<Number>,
        step: impl Into<Number>,
        options: impl Into<Options<'a>>,
    ) -> Result<Tensor> {
        let (start, end, step) = (start.into(), end.into(), step.into());
        let Options { dtype, device } = options.into();
        let n = ((end.to_f64() - start.to_f64()) / step.to_f64()).ceil();
        if !n.is_finite() || n < 0.0 {
            return Err(Error::argument(
                "arange",
                format!("no steps of {} lead from {} to {}", step.to_f64(), start.to_f64(), end.to_f64()),
            ));
        }
        Shape::from([n as usize]).checked("arange")?;
        device.backend().arange(n as usize, dtype, start, step)
    }

    /// `steps` evenly spaced numbers from `start` to `end`, both included.
    pub fn linspace<'a>(
        start: f64,
        end: f64,
        steps: usize,
        options: impl Into<Options<'a>>,
    ) -> Result<Tensor> {
        let Options { dtype, device } = options.into();
        let step = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
        Shape::from([steps]).checked("linspace")?;
        // From both ends, so that the last element is `end` itself.
        let at = |i: usize| {
            if i < steps / 2 { start + step * i as f64 } else { end - step * (steps - 1 - i) as f64 }
        };
        let values: Vec<f64> = if steps == 1 { vec![start] } else { (0..steps).map(at).collect() };
        Tensor::from_slice(&values, [steps], device)?.to_dtype(dtype)
    }

    /// Ones on the main diagonal of an `[n, m]` matrix, zeros elsewhere.
    pub fn eye<'a>(n: usize, m: usize, options: impl Into<Options<'a>>) -> Result<Tensor> {
        let Options { dtype, device } = options.into();
        let rows = Tensor::arange(0, n, 1, (DType::I64, device))?.unsqueeze(1)?;
        let columns = Tensor::arange(0, m, 1, (DType::I64, device))?;
        rows.eq(&columns)?.to_dtype(dtype)
    }

    /// Uniform numbers in `[0, 1)` from the global generator, see [`crate::manual_seed`].
    pub fn rand<'a>(shape: impl Into<Shape>, options: impl Into<Options<'a>>) -> Result<Tensor> {
        Tensor::random(
            Distribution::Uniform { low: 0.0, high: 1.0 },
            shape,
            options,
            &mut Generator::global(),
        )
    }

    /// Normal numbers of mean 0 and standard deviation 1 from the global generator, see [`crate::manual_seed`].
    pub fn randn<'a>(shape: impl Into<Shape>, options: impl Into<Options<'a>>) -> Result<Tensor> {
        Tensor::random(Distribution::Normal { mean: 0.0, std: 1.0 }, shape, options, &mut Generator::global())
    }

    /// Integers in `[low, high)` from the global generator, `int64` unless the options name another dtype.
    ///
    /// # Errors
    /// When the range is empty.
    pub fn randint(low: i64, high: i64, shape: impl Into<Shape>, device: &Device) -> Result<Tensor> {
        if low >= high {
            return Err(Error::argument("randint", format!("no integer is in [{low}, {high})")));
        }
        Tensor::random(
            Distribution::Integers { low, high },
            shape,
            (DType::I64, device),
            &mut Generator::global(),
        )
    }

    /// A random permutation of `0..n`, `int64`, from the global generator.
    pub fn randperm(n: usize, device: &Device) -> Result<Tensor> {
        Tensor::rand([n], (DType::F64, device))?.argsort(0, false)
    }

    /// Numbers from a generator of one's own.
    ///
    /// ```
    /// use gradus_tensor::{Device, Distribution, Generator, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let draw = || Tensor::random(Distribution::Normal { mean: 0., std: 1. }, [3], &Device::cpu(), &mut Generator::new(7));
    /// assert_eq!(draw()?.to_vec::<f32>()?, draw()?.to_vec::<f32>()?);
    /// # Ok(()) }
    /// ```
    pub fn random<'a>(
        distribution: Distribution,
        shape: impl Into<Shape>,
        options: impl Into<Options<'a>>,
        generator: &mut Generator,
    ) -> Result<Tensor> {
        let Options { dtype, device } = options.into();
        let shape = shape.into().checked("random")?;
        if dtype == DType::Bool && !matches!(distribution, Distribution::Bernoulli { .. }) {
            return Err(Error::dtype("random", dtype, "numbers"));
        }
        let offset = generator.advance(shape.numel() as u64);
        device.backend().random(distribution, dtype, shape, generator.seed(), offset)
    }
}

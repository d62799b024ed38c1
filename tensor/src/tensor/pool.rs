//! Pooling over one to three spatial dims.

use super::Tensor;
use crate::{Error, Pool, Result, Shape, Spatial};

/// Where the largest elements of the windows of a pooling stand, in whatever form suits the backend.
#[derive(Clone, Debug)]
pub struct MaxPlaces {
    places: Tensor,
    input: Shape,
    pool: Pool,
}

impl MaxPlaces {
    /// The gradient of [`Tensor::max_pool`] in its input, from that of its result.
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        const OP: &str = "max_pool_backward";
        grad.check_device(OP, &self.places)?;
        grad.check_float(OP)?;
        if grad.shape() != self.places.shape() {
            return Err(Error::shapes(OP, grad.shape(), self.places.shape()));
        }
        grad.backend().max_pool_places_backward(grad, &self.places, self.input, &self.pool)
    }

    /// The flat indices in the spatial plane, `int64`.
    pub fn indices(&self) -> Result<Tensor> {
        self.places.backend().max_pool_index(&self.places, self.input, &self.pool)
    }
}

impl Tensor {
    /// The largest element of each window, and its flat index in the spatial plane (`int64`); NaN wins, the last of several.
    ///
    /// # Shapes
    /// - `self`: `[n, c, spatial…]`, results: `[n, c, windows…]`
    pub fn max_pool_with_indices(&self, pool: impl Into<Pool>) -> Result<(Tensor, Tensor)> {
        let pool = pool.into();
        self.check_float("max_pool")?;
        pool.output_shape("max_pool", self.shape())?;
        self.backend().max_pool(self, &pool)
    }

    /// The largest element of each window of `[n, c, h, w]` or `[c, h, w]`; NaN wins.
    ///
    /// ```
    /// use gradus_tensor::{Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let x = Tensor::arange(0, 16, 1, &Device::cpu())?.reshape([1, 1, 4, 4])?;
    /// assert_eq!(x.max_pool2d(2)?.to_vec::<f32>()?, [5., 7., 13., 15.]);
    /// # Ok(()) }
    /// ```
    pub fn max_pool2d(&self, pool: impl Into<Pool>) -> Result<Tensor> {
        self.images("max_pool2d", |x| x.max_pool(pool))
    }

    /// The largest element of each window of `[n, c, spatial…]`; NaN wins.
    pub fn max_pool(&self, pool: impl Into<Pool>) -> Result<Tensor> {
        let pool = pool.into();
        self.check_float("max_pool")?;
        pool.output_shape("max_pool", self.shape())?;
        Ok(self.backend().max_pool_places(self, &pool, false)?.0)
    }

    /// As [`max_pool`](Self::max_pool), with what its gradient needs, which is smaller than indices.
    pub fn max_pool_places(&self, pool: impl Into<Pool>) -> Result<(Tensor, MaxPlaces)> {
        let pool = pool.into();
        self.check_float("max_pool")?;
        pool.output_shape("max_pool", self.shape())?;
        let (y, places) = self.backend().max_pool_places(self, &pool, true)?;
        let places = places.expect("a backend gives the places that it is asked for");
        Ok((y, MaxPlaces { places, input: self.shape(), pool }))
    }

    /// The largest elements of windows that divide each spatial dim into `output` nearly equal parts, and their flat indices
    /// in the spatial plane (`int64`); NaN wins, the last of several. Window `i` of `k` runs from `⌊i·size/k⌋` to `⌈(i+1)·size/k⌉`.
    ///
    /// # Shapes
    /// - `self`: `[n, c, spatial…]`, results: `[n, c, output…]`
    pub fn adaptive_max_pool_with_indices(&self, output: impl Into<Spatial>) -> Result<(Tensor, Tensor)> {
        let output = self.adaptive_shape("adaptive_max_pool", output.into())?;
        self.backend().adaptive_max_pool(self, output)
    }

    /// The largest elements of `output` nearly equal windows of `[n, c, l]` or `[c, l]`; NaN wins.
    pub fn adaptive_max_pool1d(&self, output: usize) -> Result<Tensor> {
        let (x, single) = self.batched("adaptive_max_pool1d", 3)?;
        let y = x.adaptive_max_pool_with_indices(output)?.0;
        if single { y.squeeze(0) } else { Ok(y) }
    }

    /// The largest elements of windows that divide each spatial dim into `output` nearly equal parts, of `[n, c, h, w]` or
    /// `[c, h, w]`; NaN wins.
    pub fn adaptive_max_pool2d(&self, output: impl Into<Spatial>) -> Result<Tensor> {
        self.images("adaptive_max_pool2d", |x| Ok(x.adaptive_max_pool_with_indices(output)?.0))
    }

    /// The mean of each window of `[n, c, h, w]` or `[c, h, w]`.
    pub fn avg_pool2d(&self, pool: impl Into<Pool>) -> Result<Tensor> {
        self.images("avg_pool2d", |x| x.avg_pool(pool))
    }

    /// The mean of each window of `[n, c, spatial…]`.
    pub fn avg_pool(&self, pool: impl Into<Pool>) -> Result<Tensor> {
        let pool = pool.into();
        self.check_float("avg_pool")?;
        if pool.dilation != [1; 3] {
            return Err(Error::argument("avg_pool", "an average has no dilation"));
        }
        pool.output_shape("avg_pool", self.shape())?;
        check_divisor("avg_pool", &pool)?;
        self.backend().avg_pool(self, &pool)
    }

    /// Means that divide each spatial dim into `output` nearly equal windows, of `[n, c, h, w]` or `[c, h, w]`.
    pub fn adaptive_avg_pool2d(&self, output: impl Into<Spatial>) -> Result<Tensor> {
        self.images("adaptive_avg_pool2d", |x| x.adaptive_avg_pool(output))
    }

    /// Means that divide each spatial dim into `output` nearly equal windows: window `i` of `k` runs from
    /// `⌊i·size/k⌋` to `⌈(i+1)·size/k⌉`.
    pub fn adaptive_avg_pool(&self, output: impl Into<Spatial>) -> Result<Tensor> {
        let output = self.adaptive_shape("adaptive_avg_pool", output.into())?;
        self.backend().adaptive_avg_pool(self, output)
    }

    /// The shape of an adaptive pooling to `output` windows along each spatial dim.
    fn adaptive_shape(&self, op: &'static str, output: Spatial) -> Result<Shape> {
        self.check_float(op)?;
        let spatial = self.rank().saturating_sub(2);
        if !(1..=3).contains(&spatial) || self.dims()[2..].contains(&0) {
            let expected = "expected [n, c, spatial…] with elements in every plane";
            return Err(Error::shape(op, self.shape(), expected));
        }
        let mut dims = self.dims().to_vec();
        dims[2..].copy_from_slice(&output.0[..spatial]);
        Shape::from(dims).checked(op)
    }

    /// The gradient of [`max_pool_with_indices`](Self::max_pool_with_indices) for an input of shape `input`, from that of
    /// its result, `self`, and the indices it gave.
    pub fn max_pool_backward(&self, index: &Tensor, input: impl Into<Shape>) -> Result<Tensor> {
        const OP: &str = "max_pool_backward";
        self.check_device(OP, index)?;
        let input = input.into();
        let plane = Shape::from(input.dims().get(2..).unwrap_or(&[])).numel();
        let fits = index.shape() == self.shape()
            && (3..=5).contains(&input.rank())
            && input.rank() == self.rank()
            && input.dims()[..2] == self.dims()[..2];
        if !fits || index.dtype() != crate::DType::I64 {
            return Err(Error::shapes(OP, self.shape(), index.shape()));
        }
        if index.numel() > 0 {
            let (low, high) = (index.amin(.., false)?.item()?, index.amax(.., false)?.item()?);
            if low < 0.0 || high >= plane as f64 {
                return Err(Error::index(OP, if low < 0.0 { low } else { high } as i64, plane));
            }
        }
        self.backend().max_pool_backward(self, index, input)
    }

    /// The gradient of [`avg_pool`](Self::avg_pool) for an input of shape `input`, from that of its result, `self`.
    pub fn avg_pool_backward(&self, input: impl Into<Shape>, pool: impl Into<Pool>) -> Result<Tensor> {
        let (input, pool) = (input.into(), pool.into());
        check_divisor("avg_pool_backward", &pool)?;
        let expected = pool.output_shape("avg_pool_backward", input)?;
        if expected != self.shape() {
            return Err(Error::shapes("avg_pool_backward", self.shape(), expected));
        }
        self.backend().avg_pool_backward(self, input, &pool)
    }

    /// The gradient of [`adaptive_avg_pool`](Self::adaptive_avg_pool) for an input of shape `input`, from that of its
    /// result, `self`.
    pub fn adaptive_avg_pool_backward(&self, input: impl Into<Shape>) -> Result<Tensor> {
        let input = input.into();
        if input.rank() != self.rank()
            || !(3..=5).contains(&input.rank())
            || input.dims()[..2] != self.dims()[..2]
        {
            return Err(Error::shapes("adaptive_avg_pool_backward", self.shape(), input));
        }
        self.backend().adaptive_avg_pool_backward(self, input)
    }

    /// `f` of `[n, c, h, w]`, which `[c, h, w]` becomes for the while.
    fn images(&self, op: &'static str, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (x, single) = self.batched(op, 4)?;
        let y = f(&x)?;
        if single { y.squeeze(0) } else { Ok(y) }
    }
}

/// Errors if an average would be divided by 0.
fn check_divisor(op: &'static str, pool: &Pool) -> Result<()> {
    match pool.divisor_override {
        Some(0) => Err(Error::argument(op, "divisor_override is not 0")),
        _ => Ok(()),
    }
}

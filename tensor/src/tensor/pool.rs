//! Pooling over one to three spatial dims.

use super::Tensor;
use crate::{Error, Pool, Result, Shape, Spatial};

impl Tensor {
    /// The largest element of each window, and its flat index in the spatial plane (`int64`); NaN wins.
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
        self.images("max_pool2d", |x| Ok(x.max_pool_with_indices(pool)?.0))
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
        self.backend().avg_pool(self, &pool)
    }

    /// Means that divide each spatial dim into `output` nearly equal windows, of `[n, c, h, w]` or `[c, h, w]`.
    pub fn adaptive_avg_pool2d(&self, output: impl Into<Spatial>) -> Result<Tensor> {
        self.images("adaptive_avg_pool2d", |x| x.adaptive_avg_pool(output))
    }

    /// Means that divide each spatial dim into `output` nearly equal windows: window `i` of `k` runs from
    /// `⌊i·size/k⌋` to `⌈(i+1)·size/k⌉`.
    pub fn adaptive_avg_pool(&self, output: impl Into<Spatial>) -> Result<Tensor> {
        const OP: &str = "adaptive_avg_pool";
        self.check_float(OP)?;
        let spatial = self.rank().saturating_sub(2);
        if !(1..=3).contains(&spatial) || self.dims()[2..].contains(&0) {
            return Err(Error::shape(
                OP,
                self.shape(),
                "expected [n, c, spatial…] with elements in every plane",
            ));
        }
        let mut dims = self.dims().to_vec();
        dims[2..].copy_from_slice(&output.into().0[..spatial]);
        self.backend().adaptive_avg_pool(self, Shape::from(dims).checked(OP)?)
    }

    /// The gradient of [`max_pool_with_indices`](Self::max_pool_with_indices) for an input of shape `input`, from that of
    /// its result, `self`, and the indices it gave.
    pub fn max_pool_backward(&self, index: &Tensor, input: impl Into<Shape>) -> Result<Tensor> {
        const OP: &str = "max_pool_backward";
        self.check_device(OP, index)?;
        let input = input.into();
        let plane = Shape::from(input.dims().get(2..).unwrap_or(&[])).numel();
        let fits = index.shape() == self.shape()
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

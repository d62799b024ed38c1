//! Rows of a table.

use crate::located::Located;
use crate::{Init, Param, module};
use autograd::Var;
use tensor::{Error, Result, Tensor};

/// A table with a row for each index: `[…] -> […, dim]`.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[rows, dim]`.
    pub weight: Param,
    /// A row that stays as it is.
    pub padding_idx: Option<usize>,
}
module!(Embedding { weight });

impl Embedding {
    /// Rows are standard normal, as PyTorch starts them.
    pub fn new(rows: usize, dim: usize, init: &mut Init) -> Result<Embedding> {
        Ok(Embedding { weight: init.normal([rows, dim], 0.0, 1.0)?, padding_idx: None })
    }

    /// With a row of zeros that gets no gradient.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn padding_idx(mut self, row: usize) -> Result<Embedding> {
        let table = self.weight.value();
        let (rows, dim) = (table.dims()[0], table.dims()[1]);
        if row >= rows {
            return Err(Error::argument(
                "Embedding",
                format!("padding_idx {row} is out of range for {rows} rows"),
            ));
        }
        let zeros = Tensor::zeros([1, dim], (table.dtype(), table.device()))?;
        self.weight.set(table.slice_scatter(0, row, &zeros)?)?;
        self.padding_idx = Some(row);
        Ok(self)
    }

    /// The rows that `index` (`int64`) names.
    pub fn forward(&self, index: &Tensor) -> Result<Var> {
        self.weight.var().embedding(index, self.padding_idx).located(&self.weight, "Embedding")
    }
}

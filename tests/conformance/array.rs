//! A recorded tensor: a shape and flat row-major values, kept as they were stored.

/// The values of an [`Array`], in the dtype of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
}

/// Shape and values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

impl Array {
    pub(crate) fn f64(shape: &[usize], values: Vec<f64>) -> Array {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values do not fill the shape");
        Array { shape: shape.to_vec(), values: Values::F64(values) }
    }

    pub(crate) fn is_float(&self) -> bool {
        matches!(self.values, Values::F32(_) | Values::F64(_))
    }

    /// The values as doubles: exact for floats.
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match &self.values {
            Values::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::F64(v) => v.clone(),
            Values::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Values::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Values::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        }
    }

    /// The values of integers and bools; floats truncate.
    pub(crate) fn to_i64(&self) -> Vec<i64> {
        match &self.values {
            Values::F32(v) => v.iter().map(|&x| x as i64).collect(),
            Values::F64(v) => v.iter().map(|&x| x as i64).collect(),
            Values::I64(v) => v.clone(),
            Values::I32(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Values::U8(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Values::Bool(v) => v.iter().map(|&x| i64::from(x)).collect(),
        }
    }
}

//! Element types: one row each.

use half::{bf16, f16};
use std::fmt;

/// A Rust type as it lies in memory: any bytes are valid, and it converts to and from the widest types.
pub trait Scalar: bytemuck::Pod + Send + Sync + PartialEq + PartialOrd + Default + fmt::Debug {
    /// The dtype of a tensor of these.
    const DTYPE: DType;
    /// As a double; exact for everything but large 64-bit integers.
    fn to_f64(self) -> f64;
    /// As an integer: floats are truncated and saturate, NaN gives 0.
    fn to_i64(self) -> i64;
    /// From a double, rounded to nearest; integers truncate and saturate, bool is `x != 0`.
    fn from_f64(x: f64) -> Self;
    /// From an integer, wrapping as Rust's `as` does; floats round to nearest.
    fn from_i64(x: i64) -> Self;
}

/// One byte that holds 0 or 1: how a bool lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Bool(pub u8);

// SAFETY: it is a byte, and of a byte all bit patterns are valid, zero among them.
unsafe impl bytemuck::Zeroable for Bool {}
// SAFETY: as above; it has no padding and is Copy.
unsafe impl bytemuck::Pod for Bool {}

/// What sort of number a dtype holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// True or false.
    Bool,
    /// An integer.
    Int,
    /// A floating-point number.
    Float,
}

macro_rules! dtypes {
    ($( $(#[$doc:meta])+ $D:ident $t:ty, $name:literal, $kind:ident, $to:expr, $from:expr, $to_int:expr, $from_int:expr; )+) => {
        /// The type of a tensor's elements.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType { $( $(#[$doc])+ $D, )+ }

        impl DType {
            /// Every dtype.
            pub const ALL: &'static [DType] = &[$(DType::$D),+];

            /// Bytes per element.
            pub fn size(self) -> usize {
                match self { $( DType::$D => size_of::<$t>(), )+ }
            }

            /// PyTorch's name: `float32`, `bfloat16`, `int64`, …
            pub fn name(self) -> &'static str {
                match self { $( DType::$D => $name, )+ }
            }

            /// Whether it holds bools, integers or floats.
            pub fn kind(self) -> Kind {
                match self { $( DType::$D => Kind::$kind, )+ }
            }
        }

        $( impl Scalar for $t {
            const DTYPE: DType = DType::$D;
            #[inline(always)]
            fn to_f64(self) -> f64 { ($to)(self) }
            #[inline(always)]
            fn to_i64(self) -> i64 { ($to_int)(self) }
            #[inline(always)]
            fn from_f64(x: f64) -> Self { ($from)(x) }
            #[inline(always)]
            fn from_i64(x: i64) -> Self { ($from_int)(x) }
        } )+
    };
}

dtypes! {
    /// 32-bit IEEE float.
    F32 f32, "float32", Float, |x| x as f64, |x| x as f32, |x| x as i64, |x| x as f32;
    /// 64-bit IEEE float.
    F64 f64, "float64", Float, |x| x, |x| x, |x| x as i64, |x| x as f64;
    /// 16-bit IEEE float; sums and products are accumulated in 32 bits.
    F16 f16, "float16", Float, |x: f16| x.to_f64(), f16::from_f64, |x: f16| x.to_f32() as i64, |x| f16::from_f64(x as f64);
    /// 16-bit brain float; sums and products are accumulated in 32 bits.
    BF16 bf16, "bfloat16", Float, |x: bf16| x.to_f64(), bf16::from_f64, |x: bf16| x.to_f32() as i64, |x| bf16::from_f64(x as f64);
    /// 64-bit integer: indices and class labels.
    I64 i64, "int64", Int, |x| x as f64, |x| x as i64, |x| x, |x| x;
    /// 32-bit integer.
    I32 i32, "int32", Int, |x| x as f64, |x| x as i32, |x| x as i64, |x| x as i32;
    /// 8-bit integer.
    I8 i8, "int8", Int, |x| x as f64, |x| x as i8, |x| x as i64, |x| x as i8;
    /// 8-bit unsigned integer: image bytes.
    U8 u8, "uint8", Int, |x| x as f64, |x| x as u8, |x| x as i64, |x| x as u8;
    /// 32-bit unsigned integer.
    U32 u32, "uint32", Int, |x| x as f64, |x| x as u32, |x| x as i64, |x| x as u32;
    /// True or false, one byte each.
    Bool Bool, "bool", Bool, |x: Bool| x.0 as f64, |x: f64| Bool((x != 0.0) as u8), |x: Bool| x.0 as i64, |x| Bool((x != 0) as u8);
}

impl DType {
    /// Whether it holds floating-point numbers.
    pub fn is_float(self) -> bool {
        self.kind() == Kind::Float
    }

    /// Whether it holds integers.
    pub fn is_int(self) -> bool {
        self.kind() == Kind::Int
    }

    /// The dtype in which sums and products of this one are accumulated: f32 for f16 and bf16, else itself.
    pub fn accumulator(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            other => other,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for DType {
    type Err = crate::Error;

    fn from_str(name: &str) -> crate::Result<DType> {
        DType::ALL.iter().copied().find(|d| d.name() == name).ok_or_else(|| {
            crate::Error::argument(
                "dtype",
                format!("no dtype is called {name:?}; there are {:?}", DType::ALL),
            )
        })
    }
}

/// A Rust type that tensors are made of and read as. `bool` is one, though it is stored as [`Bool`].
pub trait Element: Copy + Send + Sync + fmt::Debug + 'static {
    /// How it lies in memory.
    type Storage: Scalar;
    /// To memory.
    fn store(self) -> Self::Storage;
    /// From memory.
    fn load(stored: Self::Storage) -> Self;
}

macro_rules! elements {
    ($($t:ty),+) => { $(
        impl Element for $t {
            type Storage = $t;
            fn store(self) -> $t { self }
            fn load(stored: $t) -> $t { stored }
        }
    )+ };
}
elements!(f32, f64, f16, bf16, i64, i32, i8, u8, u32);

impl Element for bool {
    type Storage = Bool;
    fn store(self) -> Bool {
        Bool(self as u8)
    }
    fn load(stored: Bool) -> bool {
        stored.0 != 0
    }
}

/// A number as an argument: keeps whether it was written as a bool, an integer or a float, because PyTorch's
/// promotion of `tensor + number` depends on it.
///
/// ```
/// use gradus_tensor::{DType, Number};
/// assert_eq!(Number::from(2).promote(DType::I64), DType::I64);
/// assert_eq!(Number::from(2.0).promote(DType::I64), DType::F32);
/// assert_eq!(Number::from(2.0).promote(DType::BF16), DType::BF16);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// A bool.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

impl Number {
    /// As a double.
    pub fn to_f64(self) -> f64 {
        match self {
            Number::Bool(b) => b as u8 as f64,
            Number::Int(i) => i as f64,
            Number::Float(x) => x,
        }
    }

    /// As an element of memory.
    pub fn to_scalar<T: Scalar>(self) -> T {
        match self {
            Number::Bool(b) => T::from_i64(b as i64),
            Number::Int(i) => T::from_i64(i),
            Number::Float(x) => T::from_f64(x),
        }
    }

    /// The dtype of `tensor op number`, by PyTorch's rules: the tensor's own, unless the number is of a higher kind,
    /// when it is the default dtype of that kind (`float32`, `int64`).
    pub fn promote(self, dtype: DType) -> DType {
        match (self, dtype.kind()) {
            (Number::Float(_), Kind::Int | Kind::Bool) => DType::F32,
            (Number::Int(_), Kind::Bool) => DType::I64,
            _ => dtype,
        }
    }
}

macro_rules! numbers {
    ($($t:ty => $Variant:ident),+) => { $(
        impl From<$t> for Number {
            fn from(x: $t) -> Number { Number::$Variant(x as _) }
        }
    )+ };
}
numbers!(f64 => Float, f32 => Float, i64 => Int, i32 => Int, u8 => Int, u32 => Int, usize => Int, isize => Int);

impl From<bool> for Number {
    fn from(x: bool) -> Number {
        Number::Bool(x)
    }
}

/// Runs the body with `$T` bound to the Rust type in memory of any dtype.
#[macro_export]
macro_rules! match_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::f16;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::bf16;
                $body
            }
            $crate::DType::I64 => {
                type $T = i64;
                $body
            }
            $crate::DType::I32 => {
                type $T = i32;
                $body
            }
            $crate::DType::I8 => {
                type $T = i8;
                $body
            }
            $crate::DType::U8 => {
                type $T = u8;
                $body
            }
            $crate::DType::U32 => {
                type $T = u32;
                $body
            }
            $crate::DType::Bool => {
                type $T = $crate::Bool;
                $body
            }
        }
    };
}

/// Runs the body with `$T` bound to the Rust type of a floating dtype; any other is an error that names the op.
#[macro_export]
macro_rules! match_float {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::f16;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::bf16;
                $body
            }
            dtype => Err($crate::Error::dtype($op, dtype, "floats")),
        }
    };
}

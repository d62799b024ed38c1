//! Results past the caches against results through them.

use crate::cpu::isa;
use crate::cpu::simd::stream::tests::streaming_from;
use crate::cpu::threads::with_num_threads;
use crate::op::{BinaryOp, CompareOp, PredicateOp, UnaryOp};
use crate::{DType, Device, Number, Result, Tensor};

/// What becomes of two operands of one shape, by every way that a large result may be written.
fn results(x: &Tensor, z: &Tensor) -> Result<Vec<Tensor>> {
    let backend = x.backend();
    let mut all = vec![
        backend.unary(UnaryOp::Square, x)?,
        backend.binary(BinaryOp::Add, x, z)?,
        backend.binary(BinaryOp::Sub, x, &x.narrow(0, 0, 1)?.broadcast_to(x.shape())?)?,
        backend.compare(CompareOp::Lt, x, z)?,
        backend.predicate(PredicateOp::IsNan, x)?,
        backend.select(&backend.compare(CompareOp::Ge, x, z)?, x, z)?,
        backend.copy(x, x.dtype())?,
        backend.full(x.shape(), x.dtype(), Number::Int(3))?,
        Tensor::cat(&[x.clone(), z.clone()], 0)?,
    ];
    for dtype in [DType::F64, DType::F16, DType::BF16, DType::I64, DType::U8] {
        all.push(backend.copy(x, dtype)?);
    }
    // In place: what is there counts.
    all.push(backend.binary_into(BinaryOp::Mul, x.copy()?, z)?);
    Ok(all)
}

#[test]
fn results_past_the_caches_equal_those_through_them() -> Result<()> {
    let cpu = Device::cpu();
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::I32] {
        for shape in [[1, 1], [3, 21], [5, 1023], [40, 1000], [2, 40_001]] {
            let x = Tensor::randn(shape, &cpu)?.mul_scalar(9.0)?.to_dtype(dtype)?;
            let z = Tensor::randn([shape[1], shape[0]], &cpu)?.mul_scalar(9.0)?.to_dtype(dtype)?;
            // Rows, columns, and rows that begin in the middle of a line.
            let part = |x: &Tensor| x.narrow(1, shape[1] / 3, shape[1] / 2);
            let operands = [(x.clone(), x.clone()), (x.clone(), z.t()?), (part(&x)?, part(&z.t()?)?)];
            for (x, z) in &operands {
                for &level in isa::available() {
                    let run = || isa::with_isa(level, || results(x, z));
                    let expected = run()?;
                    for threads in [1, 3] {
                        let streamed = streaming_from(1, || with_num_threads(threads, run))?;
                        for (i, (y, e)) in streamed.iter().zip(&expected).enumerate() {
                            assert_eq!(y.layout(), e.layout(), "result {i}");
                            let (y, e) = (y.backend().download(y)?, e.backend().download(e)?);
                            assert!(y == e, "result {i} of {dtype} {:?} at {level}", x.dims());
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

//! Every path against the naive product: kernels of every level that runs here, and the twin of AVX-512's blocking.

use super::kernel::twin;
use super::*;
use crate::cpu::isa::Isa;
use half::{bf16, f16};

/// A float type under test.
trait Real: GemmElement<Acc: Into<f64>> {
    const EPSILON: f64;
    fn from_f64(x: f64) -> Self;
    fn levels() -> Vec<&'static Kernels<Self::Acc>>;
}

fn levels<S: Scalar>(twin: &'static Kernels<S>) -> Vec<&'static Kernels<S>> {
    let mut levels: Vec<_> = isa::available().iter().map(|level| S::kernels(*level)).collect();
    levels.push(twin);
    levels
}

macro_rules! real {
    ($($t:ident, $epsilon:expr, $twin:ident, $from:expr;)*) => {$(
        impl Real for $t {
            const EPSILON: f64 = $epsilon;
            fn from_f64(x: f64) -> Self {
                $from(x)
            }
            fn levels() -> Vec<&'static Kernels<Self::Acc>> {
                levels(&twin::$twin)
            }
        }
    )*};
}

real! {
    f32, f32::EPSILON as f64, WIDE_F32, |x| x as f32;
    f64, f64::EPSILON, WIDE_F64, |x| x;
    bf16, 1.0 / 128.0, WIDE_F32, bf16::from_f64;
    f16, 1.0 / 1024.0, WIDE_F32, f16::from_f64;
}

/// Numbers in [-1, 1) that a seed determines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn real(&mut self) -> f64 {
        self.next() as f64 / (1u64 << 30) as f64 - 1.0
    }
}

/// How a matrix lies in its slice.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    Rows,
    Cols,
    /// Rows of a wider matrix.
    Padded,
    /// No stride is 1.
    Sparse,
    /// Both strides negative.
    Flipped,
}

const LIES: [Lie; 5] = [Lie::Rows, Lie::Cols, Lie::Padded, Lie::Sparse, Lie::Flipped];

/// The length, offset and strides of a matrix that lies so.
fn place(lie: Lie, rows: usize, cols: usize) -> (usize, usize, [isize; 2]) {
    let (r, c) = (rows as isize, cols as isize);
    match lie {
        Lie::Rows => (rows * cols, 0, [c, 1]),
        Lie::Cols => (rows * cols, 0, [1, r]),
        Lie::Padded => (rows * (cols + 5) + 3, 3, [c + 5, 1]),
        Lie::Sparse => (rows * (2 * cols + 1), 0, [2 * c + 1, 2]),
        Lie::Flipped => (rows * cols, (rows * cols).saturating_sub(1), [-c, -1]),
    }
}

/// A matrix of values, laid out in a slice whose other elements are NaN.
struct Laid<T> {
    data: Vec<T>,
    offset: usize,
    dims: [usize; 2],
    strides: [isize; 2],
}

impl<T: Real> Laid<T> {
    fn new(lie: Lie, rows: usize, cols: usize, values: &[f64]) -> Self {
        let (len, offset, strides) = place(lie, rows, cols);
        let mut laid = Self { data: vec![T::from_f64(f64::NAN); len], offset, dims: [rows, cols], strides };
        for i in 0..rows {
            for j in 0..cols {
                let at = laid.at(i, j);
                laid.data[at] = T::from_f64(values[i * cols + j]);
            }
        }
        laid
    }

    fn at(&self, i: usize, j: usize) -> usize {
        (self.offset as isize + i as isize * self.strides[0] + j as isize * self.strides[1]) as usize
    }

    fn view(&self) -> MatRef<'_, T> {
        MatRef::new(&self.data, self.offset, self.dims, self.strides)
    }

    fn target(&mut self) -> MatMut<'_, T> {
        MatMut::new(&mut self.data, self.offset, self.dims, self.strides)
    }

    fn values(&self) -> Vec<f64> {
        let [rows, cols] = self.dims;
        (0..rows * cols).map(|at| self.data[self.at(at / cols, at % cols)].widen().into()).collect()
    }

    /// The elements of the slice that are not part of the matrix are still NaN.
    fn surroundings_are_untouched(&self) -> bool {
        let finite = self.data.iter().filter(|x| !(**x).widen().into().is_nan()).count();
        finite == self.dims[0] * self.dims[1]
    }
}

fn values<T: Real>(random: &mut Random, len: usize) -> Vec<f64> {
    (0..len).map(|_| T::from_f64(random.real()).widen().into()).collect()
}

/// One product by every level, in some layout, compared with the naive one.
fn check<T: Real>([m, n, k]: [usize; 3], lies: [Lie; 3], beta: Beta, bias: usize, relu: bool) {
    let random = &mut Random((m * 1000 + n * 100 + k) as u64);
    let (a, b, c) = (values::<T>(random, m * k), values::<T>(random, k * n), values::<T>(random, m * n));
    let bias_values: Vec<_> = values::<T>(random, if bias == 1 { m } else { n });
    let bias_typed: Vec<_> = bias_values.iter().map(|x| T::from_f64(*x)).collect();
    let epilogue = Epilogue {
        bias: [Bias::None, Bias::PerRow(&bias_typed[..]), Bias::PerCol(&bias_typed[..])][bias],
        activation: if relu { Activation::Relu } else { Activation::None },
    };
    let sums = naive::product(m, n, k, &a, &b);
    let (a, b) = (Laid::<T>::new(lies[0], m, k, &a), Laid::<T>::new(lies[1], k, n, &b));
    for kernels in T::levels() {
        let start = if beta == Beta::Zero { vec![f64::NAN; m * n] } else { c.clone() };
        let mut result = Laid::<T>::new(lies[2], m, n, &start);
        matrix_product(kernels, &a.view(), &b.view(), result.target().target(), beta, &epilogue);
        assert!(result.surroundings_are_untouched());
        let results = result.values();
        for (at, sum) in sums.iter().enumerate() {
            let c = if beta == Beta::One { c[at] } else { 0.0 };
            let plus = [
                0.0,
                bias_values.get(at / n.max(1)).copied().unwrap_or(0.0),
                bias_values.get(at % n.max(1)).copied().unwrap_or(0.0),
            ][bias];
            let exact = sum.value + c + plus;
            let exact = if relu { exact.max(0.0) } else { exact };
            // A sum of k terms errs by at most k·eps of its magnitude; a half type is rounded once more.
            let sum_epsilon = T::EPSILON.min(f32::EPSILON as f64);
            let bound = (k + 3) as f64 * sum_epsilon * (sum.magnitude + c.abs() + plus.abs())
                + T::EPSILON * exact.abs();
            let error = (results[at] - exact).abs();
            assert!(
                error <= bound,
                "{m}x{n}x{k} {lies:?} {beta:?} bias {bias} relu {relu} {:?} element {at}: {} instead of {exact}",
                kernels.isa,
                results[at]
            );
        }
    }
}

/// A few layouts for each of many shapes, rather than all for all.
fn check_shapes<T: Real>(shapes: impl IntoIterator<Item = [usize; 3]>) {
    for (at, shape) in shapes.into_iter().enumerate() {
        let lies = [LIES[at % 5], LIES[at / 2 % 5], LIES[at / 3 % 5]];
        let beta = if at % 3 == 0 { Beta::One } else { Beta::Zero };
        check::<T>(shape, [Lie::Rows; 3], Beta::Zero, 0, false);
        check::<T>(shape, lies, beta, at % 3, at % 2 == 1);
    }
}

const SIZES: [usize; 14] = [0, 1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 47, 49, 70];

fn cross() -> Vec<[usize; 3]> {
    let mut shapes = Vec::new();
    for m in SIZES {
        for n in SIZES {
            for k in [0, 1, 3, 4, 17, 70] {
                shapes.push([m, n, k]);
            }
        }
    }
    shapes
}

/// More than one block of k, tall, flat, and a prime in each dimension.
const LARGE: [[usize; 3]; 8] = [
    [97, 101, 103],
    [5, 331, 800],
    [331, 5, 800],
    [130, 130, 1031],
    [1, 1999, 67],
    [1999, 1, 67],
    [64, 64, 769],
    [2, 3, 5000],
];

#[test]
fn f32_products_of_ragged_shapes_match_the_naive_ones() {
    check_shapes::<f32>(cross());
    check_shapes::<f32>(LARGE);
}

#[test]
fn f64_products_of_ragged_shapes_match_the_naive_ones() {
    check_shapes::<f64>(cross());
    check_shapes::<f64>(LARGE);
}

#[test]
fn half_products_are_summed_in_f32_and_rounded_once() {
    check_shapes::<bf16>(cross().into_iter().step_by(5));
    check_shapes::<bf16>(LARGE);
    check_shapes::<f16>(cross().into_iter().step_by(7));
    check_shapes::<f16>(LARGE);
}

#[test]
fn every_combination_of_layouts_is_accepted() {
    for a in LIES {
        for b in LIES {
            for c in LIES {
                for (at, shape) in [[9, 11, 10], [40, 55, 43], [1, 77, 90], [77, 1, 90], [80, 130, 400]]
                    .into_iter()
                    .enumerate()
                {
                    check::<f32>(shape, [a, b, c], [Beta::Zero, Beta::One][at % 2], at % 3, at % 2 == 0);
                }
            }
        }
    }
}

#[test]
fn a_shared_operand_too_large_to_pack_at_once_is_packed_in_parts() {
    check::<f32>([35, 34, 125_000], [Lie::Rows; 3], Beta::One, 2, false);
}

#[test]
fn packing_writes_every_layout_as_panels() {
    fn check<T: GemmElement>(from: impl Fn(usize) -> T) {
        let (rows, cols) = (101, 60);
        for lie in LIES {
            let (len, offset, strides) = place(lie, rows, cols);
            let data: Vec<T> = (0..len).map(&from).collect();
            let matrix = MatRef::new(&data, offset, [rows, cols], strides);
            for (width, k, lines) in [4, 5, 6, 8, 16, 24, 48]
                .into_iter()
                .flat_map(|width| [(width, 0..60, 0..101), (width, 7..24, 3..100), (width, 59..60, 90..91)])
            {
                for level in isa::available() {
                    let block = Block { k: k.clone(), lines: lines.clone(), width, isa: *level };
                    let mut panels = vec![from(3).widen(); block.volume()];
                    Rows(matrix).pack(&block, &mut panels);
                    for (at, value) in panels.iter().enumerate() {
                        let (panel, rest) = (at / (width * k.len()), at % (width * k.len()));
                        let (line, step) =
                            (lines.start + panel * width + rest % width, k.start + rest / width);
                        let place = offset as isize + line as isize * strides[0] + step as isize * strides[1];
                        let expected =
                            if line < lines.end { data[place as usize].widen() } else { T::Acc::ZERO };
                        assert!(
                            *value == expected,
                            "{lie:?} width {width} {level:?} k {k:?} lines {lines:?} at {at}"
                        );
                    }
                }
            }
        }
    }
    check(|i| i as f32);
    check(|i| i as f64);
    check(|i| i as i32);
    check(|i| bf16::from_f32((i % 256) as f32));
}

#[test]
fn integers_wrap() {
    fn check<T: GemmElement + PartialEq + std::fmt::Debug>(
        from: impl Fn(u64) -> T,
        m: usize,
        n: usize,
        k: usize,
    ) {
        let random = &mut Random(7);
        let a: Vec<T> = (0..m * k).map(|_| from(random.next())).collect();
        let b: Vec<T> = (0..k * n).map(|_| from(random.next())).collect();
        for level in isa::available() {
            let mut c = vec![from(1); m * n];
            matrix_product(
                T::Acc::kernels(*level),
                &MatRef::row_major(&a, m, k),
                &MatRef::row_major(&b, k, n),
                MatMut::row_major(&mut c, m, n).target(),
                Beta::Zero,
                &Epilogue::default(),
            );
            assert_eq!(c, naive::exact(m, n, k, &a, &b));
        }
    }
    for [m, n, k] in [[3, 5, 7], [1, 20, 9], [33, 65, 70], [70, 41, 300], [1, 1, 0], [90, 1, 600]] {
        check(|x| x as i32, m, n, k);
        check(|x| (x << 20) as i64, m, n, k);
        check(|x| x as u32, m, n, k);
        check(|x| x as u8, m, n, k);
        check(|x| x as i8, m, n, k);
    }
}

#[test]
fn products_of_bytes_are_exact_and_wrap_at_32_bits() {
    fn check<A: bytes::Byte, B: bytes::Byte>(a: impl Fn(u64) -> A, b: impl Fn(u64) -> B) {
        let random = &mut Random(23);
        for (at, [m, n, k]) in [
            [1, 1, 1],
            [3, 5, 7],
            [0, 3, 2],
            [3, 2, 0],
            [33, 65, 70],
            [70, 41, 801],
            [1, 90, 1601],
            [49, 50, 3],
        ]
        .into_iter()
        .enumerate()
        {
            let lies = [LIES[at % 5], LIES[(at / 2 + 1) % 5]];
            let ((a_len, a_offset, a_strides), (b_len, b_offset, b_strides)) =
                (place(lies[0], m, k), place(lies[1], k, n));
            let x: Vec<A> = (0..a_len).map(|_| a(random.next())).collect();
            let y: Vec<B> = (0..b_len).map(|_| b(random.next())).collect();
            let index = |offset: usize, strides: [isize; 2], i: usize, j: usize| {
                (offset as isize + i as isize * strides[0] + j as isize * strides[1]) as usize
            };
            let exact: Vec<i32> = (0..m * n)
                .map(|c| {
                    (0..k).fold(0, |sum: i32, p| {
                        let (x, y) = (
                            x[index(a_offset, a_strides, c / n, p)],
                            y[index(b_offset, b_strides, p, c % n)],
                        );
                        sum.wrapping_add(i32::from(x.value()) * i32::from(y.value()))
                    })
                })
                .collect();
            let mut levels = levels(&twin::WIDE_PAIR);
            levels.dedup_by_key(|kernels| std::ptr::from_ref(*kernels));
            for kernels in levels {
                let mut c = vec![7; m * n];
                let (a, b) = (
                    MatRef::new(&x, a_offset, [m, k], a_strides),
                    MatRef::new(&y, b_offset, [k, n], b_strides),
                );
                bytes::product(kernels, a, b, MatMut::row_major(&mut c, m, n));
                assert_eq!(c, exact, "{m}x{n}x{k} {lies:?} {:?}", kernels.isa);
            }
        }
    }
    check(|x| x as i8, |x| x as i8);
    check(|x| x as u8, |x| x as i8);
    check(|x| x as i8, |x| x as u8);
    check(|x| x as u8, |x| x as u8);
    // The extremes, and more of them than 32 bits hold.
    check(|_| i8::MIN, |_| i8::MIN);
    let (m, k) = (2, 140_000);
    let (a, mut c) = (vec![i8::MIN; m * k], vec![0; m * m]);
    gemm_bytes(MatRef::row_major(&a, m, k), MatRef::row_major(&a, m, k).t(), MatMut::row_major(&mut c, m, m));
    assert_eq!(c, [(k as i32).wrapping_mul(1 << 14); 4]);
}

#[test]
fn zeros_are_not_skipped_and_nan_and_infinity_spread() {
    for (m, n, k) in [(4, 4, 4), (1, 50, 300), (50, 1, 300), (60, 70, 80)] {
        for kernels in f32::levels() {
            let mut a = vec![0.0f32; m * k];
            let b = vec![f32::INFINITY; k * n];
            let mut c = vec![0.0f32; m * n];
            let (am, bm) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
            let target = MatMut::row_major(&mut c, m, n).target();
            matrix_product(
                kernels,
                &am,
                &bm,
                target,
                Beta::Zero,
                &Epilogue { activation: Activation::Relu, ..Default::default() },
            );
            assert!(c.iter().all(|x| x.is_nan()), "0 · inf is NaN, also after relu");
            a.fill(1.0);
            let am = MatRef::row_major(&a, m, k);
            matrix_product(kernels, &am, &bm, target, Beta::Zero, &Epilogue::default());
            assert!(c.iter().all(|x| *x == f32::INFINITY));
        }
    }
}

#[test]
fn an_operand_of_stride_zero_is_read_again_and_again() {
    for kernels in f32::levels() {
        let (m, n, k) = (70, 65, 90);
        let b: Vec<f32> = (0..n).map(|j| j as f32).collect();
        let mut c = vec![f32::NAN; m * n];
        let a = MatRef::new(&[2.0], 0, [m, k], [0, 0]);
        let b = MatRef::new(&b, 0, [k, n], [0, 1]);
        matrix_product(
            kernels,
            &a,
            &b,
            MatMut::row_major(&mut c, m, n).target(),
            Beta::Zero,
            &Epilogue::default(),
        );
        assert!(c.iter().enumerate().all(|(at, x)| *x == (2 * k * (at % n)) as f32));
    }
}

#[test]
fn operands_packed_before_give_the_same_bits() {
    let random = &mut Random(3);
    for [m, n, k] in [[32, 200, 500], [200, 32, 500], [1, 64, 64], [7, 9, 0], [50, 60, 70], [300, 300, 30]] {
        let a: Vec<f32> = (0..m * k).map(|_| random.real() as f32).collect();
        let b: Vec<f32> = (0..k * n).map(|_| random.real() as f32).collect();
        let (a, b) = (MatRef::row_major(&a, m, k), MatRef::row_major(&b, k, n));
        let bias = vec![0.5f32; n];
        let epilogue = Epilogue { bias: Bias::PerCol(&bias), activation: Activation::Relu };
        let product = |a: Operand<f32>, b: Operand<f32>| {
            let mut c = vec![f32::NAN; m * n];
            gemm_with(a, b, MatMut::row_major(&mut c, m, n), Beta::Zero, epilogue);
            c
        };
        for level in isa::available() {
            isa::with_isa(*level, || {
                let (packed_a, packed_b) = (Packed::a(a), Packed::b(b));
                let expected = product(Operand::Source(&Rows(a)), Operand::Source(&Cols(b)));
                assert_eq!(product(Operand::Packed(&packed_a), Operand::Source(&Cols(b))), expected);
                assert_eq!(product(Operand::Source(&Rows(a)), Operand::Packed(&packed_b)), expected);
                assert_eq!(product(Operand::Packed(&packed_a), Operand::Packed(&packed_b)), expected);
            });
        }
    }
}

/// The windows of a signal as a virtual operand: line j is `signal[j..j + steps]`. What a convolution does, in one dimension.
struct Windows<'a> {
    signal: &'a [f32],
    steps: usize,
}

impl PackSource<f32> for Windows<'_> {
    fn lines(&self) -> usize {
        self.signal.len() + 1 - self.steps
    }

    fn steps(&self) -> usize {
        self.steps
    }

    fn pack(&self, block: &Block, panels: &mut [f32]) {
        let depth = block.k.len();
        for (at, value) in panels.iter_mut().enumerate() {
            let (panel, p, i) = (at / (block.width * depth), at / block.width % depth, at % block.width);
            let line = block.lines.start + panel * block.width + i;
            *value = if line < block.lines.end { self.signal[line + block.k.start + p] } else { 0.0 };
        }
    }
}

#[test]
fn a_virtual_operand_gives_the_bits_of_the_matrix_that_it_stands_for() {
    let random = &mut Random(17);
    for (m, n, k) in [(5, 300, 7), (40, 90, 500), (300, 20, 500), (1, 1, 1)] {
        let filters: Vec<f32> = (0..m * k).map(|_| random.real() as f32).collect();
        let signal: Vec<f32> = (0..n + k - 1).map(|_| random.real() as f32).collect();
        let filters = Rows(MatRef::row_major(&filters, m, k));
        let windows = Windows { signal: &signal, steps: k };
        let matrix = Cols(MatRef::new(&signal, 0, [k, n], [1, 1]));
        for strides in [[n as isize, 1], [1, m as isize]] {
            let product = |b: &dyn PackSource<f32>| {
                let mut c = vec![f32::NAN; m * n];
                let target = MatMut::new(&mut c, 0, [m, n], strides);
                gemm_with(
                    Operand::Source(&filters),
                    Operand::Source(b),
                    target,
                    Beta::Zero,
                    Epilogue::default(),
                );
                c
            };
            assert_eq!(product(&windows), product(&matrix));
        }
    }
}

#[test]
fn half_operands_can_give_an_f32_result() {
    let (a, b) = (vec![bf16::from_f32(1.5); 6], vec![bf16::from_f32(-0.125); 6]);
    let (a, b) = (Rows(MatRef::row_major(&a, 2, 3)), Cols(MatRef::row_major(&b, 3, 2)));
    let mut c = [f32::NAN; 4];
    gemm_with(
        Operand::Source(&a),
        Operand::Source(&b),
        MatMut::row_major(&mut c, 2, 2),
        Beta::Zero,
        Epilogue::default(),
    );
    assert_eq!(c, [-0.5625; 4]);
}

#[test]
fn a_batch_is_its_products() {
    let random = &mut Random(5);
    // Batch strides of A, B and C in matrices; 0 broadcasts.
    for (batch, [m, n, k], [a_step, b_step]) in [
        (5, [3, 4, 5], [1, 1]),
        (3, [20, 50, 60], [1, 0]),
        (3, [20, 50, 60], [0, 1]),
        (40, [17, 9, 33], [1, 1]),
        (2, [150, 140, 130], [1, 1]),
        (0, [3, 3, 3], [1, 1]),
        (4, [1, 60, 70], [1, 0]),
    ] {
        let a: Vec<f32> = (0..batch.max(1) * m * k).map(|_| random.real() as f32).collect();
        let b: Vec<f32> = (0..batch.max(1) * k * n).map(|_| random.real() as f32).collect();
        let mut c = vec![f32::NAN; batch * m * n];
        gemm_batched(
            BatchRef::new(&a, 0, [batch, m, k], [(a_step * m * k) as isize, k as isize, 1]),
            BatchRef::new(&b, 0, [batch, k, n], [(b_step * k * n) as isize, n as isize, 1]),
            BatchMut::new(&mut c, 0, [batch, m, n], [(m * n) as isize, n as isize, 1]),
            Beta::Zero,
            Epilogue::default(),
        );
        for i in 0..batch {
            let a: Vec<f64> = a[i * a_step * m * k..][..m * k].iter().map(|x| f64::from(*x)).collect();
            let b: Vec<f64> = b[i * b_step * k * n..][..k * n].iter().map(|x| f64::from(*x)).collect();
            for (sum, result) in naive::product(m, n, k, &a, &b).iter().zip(&c[i * m * n..]) {
                assert!((sum.value - f64::from(*result)).abs() <= k as f64 * 1.2e-7 * sum.magnitude);
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let random = &mut Random(11);
    for [m, n, k] in [[150, 130, 900], [1, 900, 700], [900, 1, 700], [40, 700, 300], [3, 3, 10_000]] {
        let a: Vec<f32> = (0..m * k).map(|_| random.real() as f32).collect();
        let b: Vec<f32> = (0..k * n).map(|_| random.real() as f32).collect();
        let run = |threads: usize| {
            let mut c = vec![f32::NAN; m * n];
            crate::cpu::threads::with_num_threads(threads, || {
                gemm(
                    MatRef::row_major(&a, m, k),
                    MatRef::row_major(&b, k, n),
                    MatMut::row_major(&mut c, m, n),
                    Beta::Zero,
                    Epilogue::default(),
                );
            });
            c.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let expected = run(1);
        for threads in [2, 3, 7] {
            assert_eq!(run(threads), expected, "{m}x{n}x{k} on {threads} threads");
        }
    }
}

#[test]
#[should_panic(expected = "leaves its 6 elements")]
fn a_matrix_outside_its_slice_is_refused() {
    MatRef::new(&[0.0f32; 6], 0, [2, 4], [3, 1]);
}

#[test]
#[should_panic(expected = "overlaps itself")]
fn a_result_that_overlaps_itself_is_refused() {
    MatMut::new(&mut [0.0f32; 6], 0, [2, 2], [0, 1]);
}

#[test]
fn levels_that_run_here_are_tested() {
    assert!(f32::levels().iter().any(|kernels| kernels.isa == Isa::Portable));
    assert_eq!(f32::levels().len(), isa::available().len() + 1);
}

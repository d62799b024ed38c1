//! Everything but the instructions on every machine, by the model; the instructions against the model where they exist.

mod kernels;

use super::range::Form;
use super::*;
use crate::cpu::gemm::epilogue::{Activation, Beta, Bias, Epilogue};
use crate::cpu::gemm::matrix::{MatMut, MatRef};
use crate::cpu::gemm::pack::{Cols, Rows};
use crate::cpu::gemm::packed::{Packed, Side};
use crate::cpu::gemm::scalar::Scalar;
use crate::cpu::gemm::source::{Block, PackSource};
use crate::cpu::gemm::{driver, naive};
use crate::cpu::isa::{self, Isa};

/// The kernels of a level with a unit beside them.
fn table(isa: Isa, unit: &'static Unit, f32: Option<Products>) -> &'static Kernels<f32> {
    Box::leak(Box::new(Kernels { tiles: Some(Tiles { unit, f32 }), ..*f32::kernels(isa) }))
}

/// The model beside the richest vectors, and the processor's own tiles if it has some.
fn tables(f32: Option<Products>) -> Vec<&'static Kernels<f32>> {
    let best = *isa::available().last().unwrap();
    let mut tables = vec![table(best, &model::UNIT, f32)];
    tables.extend(native().map(|unit| table(best, unit, f32)));
    tables
}

/// The tiles of this machine.
pub(super) fn native() -> Option<&'static Unit> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if isa::available().contains(&Isa::Amx) {
        return Some(&tile::UNIT);
    }
    None
}

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 32) as u32
    }

    /// In [-1, 1).
    fn real(&mut self) -> f64 {
        f64::from(self.bits()) / f64::from(1u32 << 31) - 1.0
    }

    fn reals<T: GemmElement>(&mut self, len: usize, from: impl Fn(f64) -> T) -> Vec<T> {
        (0..len).map(|_| from(self.real())).collect()
    }
}

/// One product by some kernels, past the path for small ones.
fn product<T: GemmElement<Acc = f32>>(
    kernels: &'static Kernels<f32>,
    a: Operand<f32>,
    b: Operand<f32>,
    mut c: MatMut<T>,
    beta: Beta,
    epilogue: Epilogue<T>,
) {
    driver::run(kernels, Problem { m: c.rows(), n: c.cols(), a, b, c: c.target(), beta, epilogue });
}

/// The product of row-major operands.
fn plain(kernels: &'static Kernels<f32>, a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
    let mut c = vec![f32::NAN; m * n];
    let (a, b) = (Rows(MatRef::row_major(a, m, k)), Cols(MatRef::row_major(b, k, n)));
    let c_view = MatMut::row_major(&mut c, m, n);
    product(kernels, Operand::Source(&a), Operand::Source(&b), c_view, Beta::Zero, Epilogue::default());
    c
}

/// The largest error of a product, in units of the sum of the magnitudes.
fn error(c: &[f32], a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> f64 {
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let sums = naive::product(m, n, k, &wide(a), &wide(b));
    // Half of the last bit of a denormal result is nobody's fault.
    let allowed = 2f64.powi(-149);
    let errors = c.iter().zip(&sums).map(|(c, sum)| {
        let error = ((f64::from(*c) - sum.value).abs() - allowed).max(0.0);
        if error == 0.0 { 0.0 } else { error / sum.magnitude }
    });
    errors.fold(0.0, |a, b| if b.is_nan() { b } else { a.max(b) })
}

/// The magnitude of all errors of a mode for sums of k products.
fn bound(products: Products, k: usize) -> f64 {
    let sums = (k.div_ceil(BLOCK) * 6 + 8) as f64 * 2f64.powi(-24);
    sums + match products {
        Products::One => 2f64.powi(-8),
        Products::Three => 2f64.powi(-15),
        Products::Four => 2f64.powi(-16),
        Products::Six => 0.0,
    }
}

const SHAPES: [[usize; 3]; 12] = [
    [12, 40, 33],
    [48, 33, 64],
    [2, 20, 40],
    [16, 16, 32],
    [17, 33, 33],
    [32, 32, 64],
    [31, 65, 70],
    [64, 40, 100],
    [40, 100, 129],
    [130, 20, 96],
    [20, 300, 40],
    [33, 35, 1100],
];

#[test]
fn products_of_ragged_shapes_match_the_naive_ones() {
    for products in [Products::One, Products::Three, Products::Four, Products::Six] {
        for (at, shape @ [m, n, k]) in SHAPES.into_iter().enumerate() {
            if products != Products::Six && at % 3 != 0 {
                continue;
            }
            let random = &mut Random(at as u64);
            let (a, b) = (random.reals(m * k, |x| x as f32), random.reals(k * n, |x| x as f32));
            for kernels in tables(Some(products)) {
                let error = error(&plain(kernels, &a, &b, shape), &a, &b, shape);
                assert!(error <= bound(products, k), "{products:?} {shape:?}: {error:e}");
            }
        }
    }
}

#[test]
fn layouts_betas_and_epilogues_are_all_taken() {
    let [m, n, k] = [45, 70, 75];
    let random = &mut Random(2);
    let a: Vec<f32> = random.reals(m * k, |x| x as f32);
    let b: Vec<f32> = random.reals(k * n, |x| x as f32);
    let transposed = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
        (0..rows * cols).map(|at| x[at % rows * cols + at / rows]).collect()
    };
    let (a_t, b_t) = (transposed(&a, m, k), transposed(&b, k, n));
    let bias: Vec<f32> = random.reals(n, |x| x as f32);
    let start: Vec<f32> = random.reals(m * n, |x| x as f32);
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let sums = naive::product(m, n, k, &wide(&a), &wide(&b));
    for kernels in tables(Some(Products::Six)) {
        for case in 0..16 {
            let a =
                if case & 1 == 0 { MatRef::row_major(&a, m, k) } else { MatRef::row_major(&a_t, k, m).t() };
            let b =
                if case & 2 == 0 { MatRef::row_major(&b, k, n) } else { MatRef::row_major(&b_t, n, k).t() };
            // C by rows; by rows 4096 bytes apart, which squares are copied for; by columns; with gaps.
            let (len, strides) =
                [(m * n, [n, 1]), (m * 1024, [1024, 1]), (m * n, [1, m]), (m * n * 3, [n * 3, 3])][case / 4];
            let strides = strides.map(|s| s as isize);
            let beta = if case % 3 == 0 { Beta::One } else { Beta::Zero };
            let mut c = vec![f32::NAN; len];
            let at = |i: usize, j: usize| i * strides[0] as usize + j * strides[1] as usize;
            if beta == Beta::One {
                (0..m * n).for_each(|e| c[at(e / n, e % n)] = start[e]);
            }
            let epilogue = Epilogue {
                bias: if case % 2 == 0 { Bias::PerCol(&bias[..]) } else { Bias::None },
                activation: if case % 5 == 0 { Activation::Relu } else { Activation::None },
            };
            let target = MatMut::new(&mut c, 0, [m, n], strides);
            product(kernels, Operand::Source(&Rows(a)), Operand::Source(&Cols(b)), target, beta, epilogue);
            for (e, sum) in sums.iter().enumerate() {
                let c0 = if beta == Beta::One { f64::from(start[e]) } else { 0.0 };
                let plus = if case % 2 == 0 { f64::from(bias[e % n]) } else { 0.0 };
                let exact = sum.value + c0 + plus;
                let exact = if case % 5 == 0 { exact.max(0.0) } else { exact };
                let error = (f64::from(c[at(e / n, e % n)]) - exact).abs();
                let allowed = bound(Products::Six, k) * (sum.magnitude + c0.abs() + plus.abs());
                assert!(error <= allowed, "case {case} element {e}: {error:e}");
            }
            assert_eq!(c.iter().filter(|x| !x.is_nan()).count(), m * n, "nothing else is written");
        }
    }
}

#[test]
fn half_operands_are_exact_and_their_results_rounded_once() {
    fn check<T: GemmElement<Acc = f32>>(from: impl Fn(f64) -> T + Copy, epsilon: f64) {
        for (at, [m, n, k]) in [[33, 50, 70], [20, 17, 600]].into_iter().enumerate() {
            let random = &mut Random(at as u64);
            let (a, b) = (random.reals(m * k, from), random.reals(k * n, from));
            let wide = |x: &[T]| x.iter().map(|x| f64::from(x.widen())).collect::<Vec<_>>();
            let sums = naive::product(m, n, k, &wide(&a), &wide(&b));
            // The modes of f32 do not concern them.
            for kernels in [None, Some(Products::Three)].into_iter().flat_map(tables) {
                for beta in [Beta::Zero, Beta::One] {
                    let mut c = vec![from(0.5); m * n];
                    let (a, b) = (Rows(MatRef::row_major(&a, m, k)), Cols(MatRef::row_major(&b, k, n)));
                    let c_view = MatMut::row_major(&mut c, m, n);
                    let epilogue = Epilogue::default();
                    product(kernels, Operand::Source(&a), Operand::Source(&b), c_view, beta, epilogue);
                    for (c, sum) in c.iter().zip(&sums) {
                        let exact = sum.value + if beta == Beta::One { 0.5 } else { 0.0 };
                        let allowed = bound(Products::Six, k) * (sum.magnitude + 0.5) + epsilon * exact.abs();
                        assert!((f64::from(c.widen()) - exact).abs() <= allowed);
                    }
                }
            }
        }
    }
    check(bf16::from_f64, 1.0 / 256.0);
    check(f16::from_f64, 1.0 / 2048.0);
}

/// Data of all kinds: how A's and B's values come from numbers in [-1, 1).
fn kinds() -> Vec<(&'static str, fn(&mut Random) -> f32, fn(&mut Random) -> f32)> {
    fn uniform(random: &mut Random) -> f32 {
        random.real() as f32
    }
    fn lognormal(random: &mut Random) -> f32 {
        let exponent = (random.real() + random.real() + random.real() + random.real()) * 8.0;
        (random.real() * exponent.exp2()) as f32
    }
    fn positive(random: &mut Random) -> f32 {
        random.real().abs() as f32
    }
    fn times(random: &mut Random, factor: f64) -> f32 {
        (random.real() * factor) as f32
    }
    fn any(random: &mut Random) -> f32 {
        let exponent = random.real() * 120.0;
        (random.real() * exponent.exp2()) as f32
    }
    fn mixed(random: &mut Random) -> f32 {
        let small = random.bits().is_multiple_of(3);
        times(random, if small { 1e-40 } else { 1.0 })
    }
    vec![
        ("uniform", uniform, uniform),
        ("lognormal", lognormal, lognormal),
        ("positive", positive, positive),
        ("1e-30 and 1e30", |r| times(r, 1e-30), |r| times(r, 1e30)),
        ("1e-20 and 1e-20", |r| times(r, 1e-20), |r| times(r, 1e-20)),
        ("1e-37", |r| times(r, 1e-37), uniform),
        ("subnormal", |r| times(r, 1e-41), uniform),
        ("subnormal and large", |r| times(r, 1e-41), |r| times(r, 1e37)),
        ("large and small", |r| times(r, 3e38), |r| times(r, 1e-38)),
        ("some subnormal", mixed, uniform),
        ("some subnormal on both sides", mixed, mixed),
        ("all magnitudes", any, |r| times(r, 1e-2)),
        ("zero", |_| 0.0, uniform),
    ]
}

#[test]
fn six_products_are_no_less_exact_than_multiply_adds_whatever_the_data() {
    let shape @ [m, n, k] = [33, 34, 200];
    for (name, left, right) in kinds() {
        let random = &mut Random(9);
        let a: Vec<f32> = (0..m * k).map(|_| left(random)).collect();
        let b: Vec<f32> = (0..k * n).map(|_| right(random)).collect();
        let mut sequential = vec![0.0f32; m * n];
        for (at, c) in sequential.iter_mut().enumerate() {
            *c = (0..k).fold(0.0, |sum, p| a[at / n * k + p].mul_add(b[p * n + at % n], sum));
        }
        let strict = error(&sequential, &a, &b, shape);
        for kernels in tables(Some(Products::Six)) {
            let auto = error(&plain(kernels, &a, &b, shape), &a, &b, shape);
            assert!(auto <= strict + 2f64.powi(-24), "{name}: {auto:e}, strictly {strict:e}");
        }
        for kernels in tables(Some(Products::Three)) {
            let fast = error(&plain(kernels, &a, &b, shape), &a, &b, shape);
            assert!(fast <= strict + 2f64.powi(-15), "{name}, three products: {fast:e}");
        }
    }
}

#[test]
fn infinities_and_nan_are_where_multiply_adds_have_them() {
    let shape @ [m, n, k] = [40, 70, 64];
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let random = &mut Random(4);
        let mut a: Vec<f32> = random.reals(m * k, |x| x as f32);
        let mut b: Vec<f32> = random.reals(k * n, |x| if x > 0.7 { 0.0 } else { x as f32 });
        (a[3 * k + 5], b[7 * n + 66]) = (odd, odd);
        let strict = plain(f32::kernels(Isa::Portable), &a, &b, shape);
        for kernels in [Products::Six, Products::Three].into_iter().flat_map(|p| tables(Some(p))) {
            for (at, (c, strict)) in plain(kernels, &a, &b, shape).iter().zip(&strict).enumerate() {
                let same = if strict.is_finite() {
                    (c - strict).abs() <= 1e-3 + strict.abs() * 1e-4
                } else {
                    c.to_bits() == strict.to_bits() || c.is_nan() && strict.is_nan()
                };
                assert!(same, "{odd} at {at}: {c}, strictly {strict}");
            }
        }
    }
}

/// What a convolution does in one dimension: line j is `signal[j..j + steps]`.
struct Windows<'a>(&'a [f32], usize);

impl PackSource<f32> for Windows<'_> {
    fn lines(&self) -> usize {
        self.0.len() + 1 - self.1
    }

    fn steps(&self) -> usize {
        self.1
    }

    fn pack(&self, block: &Block, panels: &mut [f32]) {
        for (at, value) in panels.iter_mut().enumerate() {
            let (panel, rest) = (at / (block.width * block.k.len()), at % (block.width * block.k.len()));
            let line = block.lines.start + panel * block.width + rest % block.width;
            let step = block.k.start + rest / block.width;
            *value = if line < block.lines.end { self.0[line + step] } else { 0.0 };
        }
    }
}

#[test]
fn operands_packed_before_and_virtual_ones_give_the_same_bits() {
    for (at, [m, n, k]) in
        [[40, 100, 50], [100, 40, 700], [20, 33, 32], [5, 50, 90], [50, 50, 20]].into_iter().enumerate()
    {
        let random = &mut Random(at as u64);
        let mut signal: Vec<f32> = random.reals(m + k - 1, |x| x as f32);
        if at == 1 {
            (signal[3], signal[120]) = (1e-44, 1e30);
        }
        let b: Vec<f32> = random.reals(k * n, |x| x as f32);
        let windows = Windows(&signal, k);
        let (a, b) = (Rows(MatRef::new(&signal, 0, [m, k], [1, 1])), Cols(MatRef::row_major(&b, k, n)));
        for kernels in tables(Some(Products::Six)) {
            let result = std::any::TypeId::of::<f32>();
            let pack =
                |side, source: &dyn PackSource<f32>| Packed::with_kernels(kernels, result, side, source);
            let (a_packed, b_packed) = (pack(Side::A, &windows), pack(Side::B, &b));
            let run = |a: Operand<f32>, b: Operand<f32>| {
                let mut c = vec![f32::NAN; m * n];
                let target = MatMut::row_major(&mut c, m, n);
                product(kernels, a, b, target, Beta::Zero, Epilogue::default());
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let expected = run(Operand::Source(&a), Operand::Source(&b));
            assert_eq!(run(Operand::Source(&windows), Operand::Source(&b)), expected);
            assert_eq!(run(Operand::Packed(&a_packed), Operand::Source(&b)), expected);
            assert_eq!(run(Operand::Source(&a), Operand::Packed(&b_packed)), expected);
            assert_eq!(run(Operand::Packed(&a_packed), Operand::Packed(&b_packed)), expected);
        }
    }
}

#[test]
fn operands_packed_for_another_type_of_results_are_multiplied_strictly() {
    let [m, n, k] = [32, 32, 64];
    let a = Random(1).reals(m * k, bf16::from_f64);
    let (a, b) = (Rows(MatRef::row_major(&a, m, k)), vec![1.0f32; k * n]);
    let b = Cols(MatRef::row_major(&b, k, n));
    for kernels in tables(Some(Products::Six)) {
        let packed = Packed::with_kernels(kernels, TypeId::of::<bf16>(), Side::A, &a);
        let run = |kernels, a: Operand<f32>| {
            let mut c = vec![f32::NAN; m * n];
            let target = MatMut::row_major(&mut c, m, n);
            product(kernels, a, Operand::Source(&b), target, Beta::Zero, Epilogue::default());
            c
        };
        let strict = f32::kernels(*isa::available().last().unwrap().min(&Isa::Avx512));
        assert_eq!(run(kernels, Operand::Packed(&packed)), run(strict, Operand::Source(&a)));
    }
}

#[test]
fn few_rows_go_to_tiles_where_reading_the_other_operand_is_the_work() {
    fn takes<T: GemmElement<Acc = f32>>(m: usize) -> bool {
        let [n, k] = [64, 96];
        let kernels = table(Isa::Portable, &model::UNIT, Some(Products::Six));
        let (a, b) = (vec![T::narrow(1.0); m * k], vec![T::narrow(1.0); k * n]);
        let b = Cols(MatRef::row_major(&b, k, n));
        let b = Packed::with_kernels(kernels, TypeId::of::<T>(), Side::B, &b);
        let mut c = vec![T::narrow(0.0); m * n];
        let c = MatMut::row_major(&mut c, m, n).target();
        let (a, b) = (&Rows(MatRef::row_major(&a, m, k)), Operand::Packed(&b));
        let epilogue = Epilogue::<T>::default();
        plan(kernels, &Problem { m, n, a: Operand::Source(a), b, c, beta: Beta::Zero, epilogue }).is_some()
    }
    assert!([12, 16, 32, 33].into_iter().all(takes::<f32>));
    assert!(!takes::<f32>(8) && !takes::<f16>(8) && !takes::<bf16>(1));
    assert!([2, 8, 32].into_iter().all(takes::<bf16>));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for shape @ [m, n, k] in [[150, 100, 70], [40, 400, 600]] {
        let random = &mut Random(11);
        let (a, b) = (random.reals(m * k, |x| x as f32), random.reals(k * n, |x| x as f32));
        for kernels in tables(Some(Products::Six)) {
            let run = |threads| {
                let c = crate::cpu::threads::with_num_threads(threads, || plain(kernels, &a, &b, shape));
                c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let expected = run(1);
            assert!([2, 3, 7].into_iter().all(|threads| run(threads) == expected), "{shape:?}");
        }
    }
}

#[test]
fn a_panel_comes_back_as_it_was_packed() {
    let [lines, steps] = [50, 70];
    for (name, left, _) in kinds() {
        let random = &mut Random(5);
        let values: Vec<f32> = (0..lines * steps).map(|_| left(random)).collect();
        let kernels = tables(Some(Products::Six))[0];
        for source in [
            Rows(MatRef::row_major(&values, lines, steps)),
            Rows(MatRef::row_major(&values, steps, lines).t()),
        ] {
            for side in [Side::A, Side::B] {
                let packed = super::Packed::new(kernels, TypeId::of::<f32>(), side, &source).unwrap();
                let block = Block { k: 3..steps, lines: 1..lines, width: 8, isa: Isa::Portable };
                let (mut panels, mut expected) = (vec![f32::NAN; block.volume()], vec![0.0; block.volume()]);
                packed.pack(&block, &mut panels);
                source.pack(&block, &mut expected);
                assert_eq!(panels, expected, "{name}");
            }
        }
    }
    let ones = vec![1.0f32; 32 * 32];
    let kernels = tables(Some(Products::Six))[0];
    let packed =
        super::Packed::new(kernels, TypeId::of::<f32>(), Side::B, &Rows(MatRef::row_major(&ones, 32, 32)));
    assert!(packed.unwrap().view().block(0, &(0..1), 0).1.iter().all(|head| head.form == Form::Scaled(0)));
}

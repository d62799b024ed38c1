//! Loops written once over a [`Vector`] of an accumulator type and compiled for each level of instructions.
//!
//! [`dispatch!`](super::wide::dispatch) leaves the vectorising to the compiler; these loops are for what it cannot do by itself: functions such
//! as `exp` over whole vectors, and sums of them. Element `i` goes to partial sum `i % 32` at every width, so that sums have
//! one order whatever the level.
//!
//! Every closure in these loops is `inline(always)`: one that the compiler left as a function of its own would lack the level's
//! instructions, and each operation of a vector would become a call (measured in softmax: 50 times slower).

use crate::Scalar;
use crate::cpu::isa::Isa;
use crate::cpu::simd::lanes::Lanes;
#[cfg(target_arch = "aarch64")]
use crate::cpu::simd::neon::F32x4;
use crate::cpu::simd::scalar::Plain;
use crate::cpu::simd::{BELOW_UNIT, exp_below};
#[cfg(target_arch = "x86_64")]
use crate::cpu::simd::{avx2::F32x8, avx512::F32x16};
use crate::cpu::wide::WideFloat;
use crate::op::Real;

/// Partial sums that a run of elements is spread over.
pub(crate) const LANES: usize = 32;

/// Several floats side by side: a vector of `f32`, or one `f64`.
pub(crate) trait Vector: Real {
    /// What it is made of.
    type Element: WideFloat;
    /// How many.
    const WIDTH: usize;
    /// `value` in every lane.
    fn all(value: Self::Element) -> Self;
    /// # Safety
    /// `from` points at `WIDTH` initialised elements.
    unsafe fn read(from: *const Self::Element) -> Self;
    /// # Safety
    /// `to` points at room for `WIDTH` elements.
    unsafe fn write(self, to: *mut Self::Element);
    /// `self > other ? self : other`.
    fn larger(self, other: Self) -> Self;
    /// Of these elements followed by those of `next`: every second one from the first, and from the second.
    fn split_pairs(self, next: Self) -> (Self, Self);
    /// The elements of both by turns.
    fn join_pairs(self, odd: Self) -> (Self, Self);
    /// `e^x · UNIT` for `x <= 0`, 0 far below: cheaper than [`exp`](Real::exp), and what is small stays normal.
    fn exp_below(self) -> Self;
    /// What [`exp_below`](Self::exp_below) of 0 is: a power of 2.
    const UNIT: f64;
}

impl<V: Lanes> Vector for V {
    type Element = f32;
    const WIDTH: usize = <V as Lanes>::WIDTH;

    #[inline(always)]
    fn all(value: f32) -> V {
        <V as Lanes>::splat(value)
    }
    #[inline(always)]
    unsafe fn read(from: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(from) }
    }
    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to) }
    }
    #[inline(always)]
    fn larger(self, other: V) -> V {
        Lanes::larger(self, other)
    }
    #[inline(always)]
    fn split_pairs(self, next: V) -> (V, V) {
        Lanes::split_pairs(self, next)
    }
    #[inline(always)]
    fn join_pairs(self, odd: V) -> (V, V) {
        Lanes::join_pairs(self, odd)
    }
    #[inline(always)]
    fn exp_below(self) -> V {
        exp_below(self)
    }
    const UNIT: f64 = BELOW_UNIT;
}

impl Vector for f64 {
    type Element = f64;
    const WIDTH: usize = 1;

    #[inline(always)]
    fn all(value: f64) -> f64 {
        value
    }
    #[inline(always)]
    unsafe fn read(from: *const f64) -> f64 {
        // SAFETY: the caller's promise.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn write(self, to: *mut f64) {
        // SAFETY: the caller's promise.
        unsafe { *to = self }
    }
    #[inline(always)]
    fn larger(self, other: f64) -> f64 {
        if self > other { self } else { other }
    }
    #[inline(always)]
    fn split_pairs(self, next: f64) -> (f64, f64) {
        (self, next)
    }
    #[inline(always)]
    fn join_pairs(self, odd: f64) -> (f64, f64) {
        (self, odd)
    }
    #[inline(always)]
    fn exp_below(self) -> f64 {
        Real::exp(self)
    }
    const UNIT: f64 = 1.0;
}

/// A loop over vectors of `A`.
pub(crate) trait VectorLoop<A> {
    /// What it returns.
    type Output;
    /// Runs it; to be marked `inline(always)`, so that it is compiled for the level of `V`.
    fn run<V: Vector<Element = A>>(self) -> Self::Output;
}

/// An accumulator of floats that has vectors.
pub(crate) trait Vectorised: WideFloat {
    /// Runs the loop on the vectors of `isa`.
    fn vectorised<L: VectorLoop<Self>>(isa: Isa, run: L) -> L::Output;
}

/// Implements [`Vectorised`] with a vector type for each level.
macro_rules! vectorised {
    ($A:ty: $Portable:ty, $Neon:ty, $Avx2:ty, $Avx512:ty) => {
        impl Vectorised for $A {
            fn vectorised<L: VectorLoop<$A>>(isa: Isa, run: L) -> L::Output {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2<L: VectorLoop<$A>>(run: L) -> L::Output {
                    run.run::<$Avx2>()
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
                fn avx512<L: VectorLoop<$A>>(run: L) -> L::Output {
                    run.run::<$Avx512>()
                }
                match isa {
                    // SAFETY: levels come from `isa::isa`, which gives none that the machine lacks.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => unsafe { avx2(run) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 | Isa::Amx => unsafe { avx512(run) },
                    #[cfg(target_arch = "aarch64")]
                    Isa::Neon => run.run::<$Neon>(),
                    _ => run.run::<$Portable>(),
                }
            }
        }
    };
}
vectorised!(f32: Plain, F32x4, F32x8, F32x16);
vectorised!(f64: f64, f64, f64, f64);

/// Calls `body(part, at, count, vectors)` for each vector of the operands, which are as long as the first: it starts at
/// element `at` and belongs to partial result `part`. In the last, lanes beyond the end hold `pad`.
#[inline(always)]
pub(crate) fn for_each<V: Vector, const N: usize>(
    x: [&[V::Element]; N],
    pad: [V::Element; N],
    mut body: impl FnMut(usize, usize, usize, [V; N]),
) {
    let n = x[0].len();
    assert!(x.iter().all(|x| x.len() >= n), "operands are as long as the first");
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for part in 0..LANES / V::WIDTH {
            let at = start + part * V::WIDTH;
            // SAFETY: `at + WIDTH <= start + LANES <= n`, and all operands have `n` elements (checked above).
            body(
                part,
                at,
                V::WIDTH,
                x.map(
                    #[inline(always)]
                    |x| unsafe { V::read(x.as_ptr().add(at)) },
                ),
            );
        }
    }
    if whole < n {
        let mut rest = pad.map(|pad| [pad; LANES]);
        for (rest, x) in rest.iter_mut().zip(x) {
            rest[..n - whole].copy_from_slice(&x[whole..n]);
        }
        for part in 0..LANES / V::WIDTH {
            let (at, first) = (whole + part * V::WIDTH, part * V::WIDTH);
            if at < n {
                // SAFETY: `first + WIDTH <= LANES`.
                let values = std::array::from_fn(
                    #[inline(always)]
                    |k| unsafe { V::read(rest[k].as_ptr().add(first)) },
                );
                body(part, at, V::WIDTH.min(n - at), values);
            }
        }
    }
}

/// Writes the first `count` lanes to `y`, from `at`.
#[inline(always)]
fn put<V: Vector>(y: &mut [V::Element], at: usize, count: usize, value: V) {
    let y = &mut y[at..at + count];
    if count == V::WIDTH {
        // SAFETY: `y` has `WIDTH` elements.
        return unsafe { value.write(y.as_mut_ptr()) };
    }
    let mut lanes = [V::Element::zero(); LANES];
    // SAFETY: there is room for `LANES >= WIDTH`.
    unsafe { value.write(lanes.as_mut_ptr()) };
    y.copy_from_slice(&lanes[..count]);
}

/// The lanes of the partial results combined, in halves.
#[inline(always)]
fn total<V: Vector>(
    parts: &[V; LANES],
    combine: impl Fn(V::Element, V::Element) -> V::Element,
) -> V::Element {
    halved(&mut lanes(parts), combine)
}

/// The sum of the partial sums, added up in doubles.
#[inline(always)]
pub(crate) fn total_in_doubles<V: Vector>(parts: &[V; LANES]) -> f64 {
    let mut lanes = lanes(parts).map(
        #[inline(always)]
        |lane| lane.to_f64(),
    );
    halved(&mut lanes, |a, b| a + b)
}

/// The lanes of the partial results.
#[inline(always)]
fn lanes<V: Vector>(parts: &[V; LANES]) -> [V::Element; LANES] {
    let mut lanes = [V::Element::zero(); LANES];
    for part in 0..LANES / V::WIDTH {
        // SAFETY: `part · WIDTH + WIDTH <= LANES`.
        unsafe { parts[part].write(lanes.as_mut_ptr().add(part * V::WIDTH)) };
    }
    lanes
}

/// All lanes combined, in halves.
///
/// A function of its own: where the compiler sees it after a loop over lanes, it chooses vectors for the halves, pairs of
/// lanes, in the loop too (measured with sums: half as fast).
#[inline(never)]
pub(crate) fn halved<A: Copy>(lanes: &mut [A; LANES], combine: impl Fn(A, A) -> A) -> A {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = combine(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `y[i] = f(x[0][i], x[1][i], …)`.
#[inline(always)]
pub(crate) fn map<V: Vector, const N: usize>(
    x: [&[V::Element]; N],
    y: &mut [V::Element],
    f: impl Fn([V; N]) -> V,
) {
    for_each::<V, N>(
        x,
        [V::Element::zero(); N],
        #[inline(always)]
        |_, at, count, x| put(y, at, count, f(x)),
    );
}

/// `y[i] = f(y[i], x[0][i], …)`.
#[inline(always)]
pub(crate) fn update<V: Vector, const N: usize>(
    y: &mut [V::Element],
    x: [&[V::Element]; N],
    f: impl Fn(V, [V; N]) -> V,
) {
    update_all::<V, 1, N>(
        [y],
        x,
        #[inline(always)]
        |[y], x| [f(y, x)],
    );
}

/// `(y[0][i], y[1][i], …) = f((y[0][i], …), (x[0][i], …))`, for as many places as the first result has.
#[inline(always)]
pub(crate) fn update_all<V: Vector, const M: usize, const N: usize>(
    mut y: [&mut [V::Element]; M],
    x: [&[V::Element]; N],
    f: impl Fn([V; M], [V; N]) -> [V; M],
) {
    let n = y[0].len();
    assert!(y.iter().all(|y| y.len() >= n), "results are as long as the first");
    assert!(x.iter().all(|x| x.len() >= n), "operands are as long as the result");
    let whole = n / V::WIDTH * V::WIDTH;
    let targets = y.each_mut().map(|y| y.as_mut_ptr());
    for at in (0..whole).step_by(V::WIDTH) {
        // SAFETY: `at + WIDTH <= n`, and all slices have `n` elements (checked above).
        let (old, x) = unsafe {
            (
                targets.map(
                    #[inline(always)]
                    |y| V::read(y.add(at)),
                ),
                x.map(
                    #[inline(always)]
                    |x| V::read(x.as_ptr().add(at)),
                ),
            )
        };
        let new = f(old, x);
        for k in 0..M {
            // SAFETY: as above.
            unsafe { new[k].write(targets[k].add(at)) };
        }
    }
    if whole < n {
        let part = |x: &[V::Element]| {
            let mut lanes = [V::Element::zero(); LANES];
            lanes[..n - whole].copy_from_slice(&x[whole..n]);
            // SAFETY: there are `LANES >= WIDTH` of them.
            unsafe { V::read(lanes.as_ptr()) }
        };
        let rest = f(std::array::from_fn(|k| part(y[k])), x.map(part));
        for (y, rest) in y.into_iter().zip(rest) {
            put(y, whole, n - whole, rest);
        }
    }
}

/// `Σ f(x[0][i], x[1][i], …)`, `M` sums at a time; `f` of the `pad`s is 0.
#[inline(always)]
pub(crate) fn sums<V: Vector, const N: usize, const M: usize>(
    x: [&[V::Element]; N],
    pad: [V::Element; N],
    f: impl Fn([V; N]) -> [V; M],
) -> [V::Element; M] {
    partial_sums(x, pad, f).map(
        #[inline(always)]
        |parts| {
            total(
                &parts,
                #[inline(always)]
                |a, b| a + b,
            )
        },
    )
}

/// The partial sums of [`sums`].
#[inline(always)]
fn partial_sums<V: Vector, const N: usize, const M: usize>(
    x: [&[V::Element]; N],
    pad: [V::Element; N],
    f: impl Fn([V; N]) -> [V; M],
) -> [[V; LANES]; M] {
    let mut parts = [[V::zero(); LANES]; M];
    for_each::<V, N>(
        x,
        pad,
        #[inline(always)]
        |part, _, _, x| {
            let terms = f(x);
            for k in 0..M {
                parts[k][part] = parts[k][part] + terms[k];
            }
        },
    );
    parts
}

/// As [`map`], and the sum of what it writes; `f` of the `pad`s is 0.
#[inline(always)]
pub(crate) fn map_sum<V: Vector, const N: usize>(
    x: [&[V::Element]; N],
    pad: [V::Element; N],
    y: &mut [V::Element],
    f: impl Fn([V; N]) -> V,
) -> V::Element {
    let mut parts = [V::zero(); LANES];
    for_each::<V, N>(
        x,
        pad,
        #[inline(always)]
        |part, at, count, x| {
            let value = f(x);
            parts[part] = parts[part] + value;
            put(y, at, count, value);
        },
    );
    total(
        &parts,
        #[inline(always)]
        |a, b| a + b,
    )
}

/// The largest element, -∞ of none; NaNs may be passed over.
#[inline(always)]
pub(crate) fn largest<V: Vector>(x: &[V::Element]) -> V::Element {
    let least = -V::Element::splat(f64::INFINITY);
    let mut parts = [V::all(least); LANES];
    for_each::<V, 1>(
        [x],
        [least],
        #[inline(always)]
        |part, _, _, [x]| parts[part] = x.larger(parts[part]),
    );
    total(
        &parts,
        #[inline(always)]
        |a, b| if a > b { a } else { b },
    )
}

// Mean and variance over any dims: Σ (x - mean)² / divisor.
//
// Layout: [outputs, pieces] each; x is walked twice, over outputs and over what is reduced. Launch: a group of threads for each output,
// block_y for each piece of `chunk` elements. Bytes: x once. A thread takes every size-th element, RUN of them at a time: the moments of
// those are made in registers, of their distances from the first element of the output, so that large means cost no digits, and joined with
// what it has. All are joined in the order of their indices.
#include "moments.h"
#include "group.h"
#include "walk.h"

constexpr u32 RUN = 8;

template <class A> DEVICE Moments<A> together(const Member &member, const Moments<A> &value) {
    return across(member, value, [](const Moments<A> &a, const Moments<A> &b) { return a.joined(b); });
}

template <class Y, class X>
DEVICE void moments(const Walk<1> &outputs, const Walk<1> &reduced, u32 chunk, u32 log_size, f64 divisor, Global<Y> means,
                    Global<Y> variances, Global<const X> x) {
    using A = Wide<X>;
    const Member member(log_size);
    const bool inside = member.line < outputs.count;
    Moments<A> all{0, 0, 0};
    A shift = 0;
    if (inside && reduced.count > 0) {
        i64 start[1];
        outputs.offsets(member.line, start);
        shift = widen(x[start[0]]);
        const u32 begin = block_y() * chunk, end = begin + chunk < reduced.count ? begin + chunk : reduced.count;
        for (u32 r = begin + member.index; r < end; r += RUN * member.size) {
            X given[RUN];
            UNROLL for (u32 j = 0; j < RUN; j++) {
                i64 at[1];
                // Whatever stands in for elements past the end does not count below.
                reduced.offsets(r + j * member.size < end ? r + j * member.size : r, at);
                given[j] = x[start[0] + at[0]];
            }
            Moments<A> run{0, 0, 0};
            A values[RUN];
            UNROLL for (u32 j = 0; j < RUN; j++) {
                values[j] = widen(given[j]) - shift;
                if (r + j * member.size < end) run.count += A(1), run.mean += values[j];
            }
            run.mean = run.mean / run.count;
            UNROLL for (u32 j = 0; j < RUN; j++) {
                const A centred = r + j * member.size < end ? values[j] - run.mean : A(0);
                run.squares = std::fma(centred, centred, run.squares);
            }
            all = all.joined(run);
        }
    }
    all = together(member, all);
    if (!inside || member.index != 0) return;
    const i64 to = i64(member.line) * grid_y() + block_y();
    means[to] = narrow<Y>(all.count == 0 ? std::numeric_limits<A>::quiet_NaN() : shift + all.mean);
    variances[to] = narrow<Y>(all.squares / A(divisor));
}

// Joins the moments of pieces, a warp for each output, always in the same order: mean, Σ / divisor and, where asked for,
// 1 / √(variance + eps).
template <class T>
DEVICE void join_moments(u32 outputs, u32 pieces, u32 count, u32 chunk, f64 divisor, f64 eps, Global<T> means, Global<T> variances,
                         Global<T> rstds, Global<const Wide<T>> of_pieces, Global<const Wide<T>> squares) {
    using A = Wide<T>;
    const Member member(5);
    const bool inside = member.line < outputs;
    Moments<A> all{0, 0, 0};
    for (u32 p = member.index; p < (inside ? pieces : 0); p += member.size) {
        const u32 before = p * chunk, here = before + chunk < count ? chunk : count - before;
        const i64 at = i64(member.line) * pieces + p;
        all = all.joined({A(here), of_pieces[at], squares[at]});
    }
    all = together(member, all);
    if (!inside || member.index != 0) return;
    const A variance = all.squares / A(divisor);
    means[member.line] = narrow<T>(all.mean), variances[member.line] = narrow<T>(variance);
    if (rstds.pointer) rstds[member.line] = narrow<T>(A(1) / std::sqrt(variance + A(eps)));
}

#define MOMENTS(X, Y)                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, moments_##X##_##Y,                                                                                    \
              (PARAMETER Walk<1> outputs, PARAMETER Walk<1> reduced, u32 chunk, u32 log_size, f64 divisor, Global<Y> means,      \
               Global<Y> variances, Global<const X> x)) {                                                                        \
        moments(outputs, reduced, chunk, log_size, divisor, means, variances, x);                                                \
    }

MOMENTS(f32, f32)
MOMENTS(f64, f64)
MOMENTS(f16, f16)
MOMENTS(bf16, bf16)
// Pieces of 16-bit floats stay wide until they are joined.
MOMENTS(f16, f32)
MOMENTS(bf16, f32)

#define JOIN(T)                                                                                                                  \
    KERNEL_OF(GROUP_BLOCK, join_moments_##T,                                                                                     \
              (u32 outputs, u32 pieces, u32 count, u32 chunk, f64 divisor, f64 eps, Global<T> means, Global<T> variances,        \
               Global<T> rstds, Global<const Wide<T>> of_pieces, Global<const Wide<T>> squares)) {                               \
        join_moments(outputs, pieces, count, chunk, divisor, eps, means, variances, rstds, of_pieces, squares);                  \
    }

FOR_FLOATS(JOIN)

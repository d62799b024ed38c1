// Philox random numbers: element i of a draw is made from counter offset + i alone, as in tensor/src/random.rs, whose formulas these
// are to the last bit: products are not fused with sums.
// nvcc: -fmad=false
//
// `begin` may lead to a number that the draw begins further on.
// Launch: a thread for each element. Bytes: y once; some 60 integer multiplications an element.
#include "philox.h"

// In [0, 1), with 53 random bits.
DEVICE f64 unit(u32 a, u32 b) { return (f64(a) * 2097152.0 + f64(b >> 11)) * (1.0 / 9007199254740992.0); }

DEVICE f64 from_bits(u64 bits) {
    f64 x;
    memcpy(&x, &bits, 8);
    return x;
}
DEVICE u64 to_bits(f64 x) {
    u64 bits;
    memcpy(&bits, &x, 8);
    return bits;
}

// The natural logarithm of a normal positive number; coefficients of FDLIBM.
DEVICE f64 logarithm(f64 x) {
    const u64 shifted = to_bits(x) + (to_bits(1.0) - to_bits(0.70710678118654752440));
    const f64 n = from_bits(shifted >> 52 | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
    const f64 f = from_bits(to_bits(x) - (((shifted >> 52) - 1023) << 52)) - 1.0;
    const f64 s = f / (2.0 + f), z = s * s;
    f64 r = 1.479819860511658591e-1;
    r = r * z + 1.531383769920937332e-1;
    r = r * z + 1.818357216161805012e-1;
    r = r * z + 2.222219843214978396e-1;
    r = r * z + 2.857142874366239149e-1;
    r = r * z + 3.999999999940941908e-1;
    r = r * z + 6.666666666666735130e-1;
    r = z * r;
    const f64 half = 0.5 * f * f, high = 6.931471803691238e-1, low = 1.9082149292705877e-10;
    return n * high - ((half - (s * (half + r) + n * low)) - f);
}

// cos(2 pi v) for v in [0, 1); coefficients of FDLIBM.
DEVICE f64 cos_of_turns(f64 v) {
    const f64 rounding = 6755399441055744.0; // 1.5 * 2^52: added to a small number, it leaves the nearest integer
    const f64 quarter = (v * 4.0 + rounding) - rounding;
    const f64 x = (v - quarter * 0.25) * 6.28318530717958647693, z = x * x;
    f64 sine = 1.58969099521155010221e-10;
    sine = sine * z + -2.50507602534068634195e-08;
    sine = sine * z + 2.75573137070700676789e-06;
    sine = sine * z + -1.98412698298579493134e-04;
    sine = sine * z + 8.33333333332248946124e-03;
    sine = sine * z + -1.66666666666666324348e-01;
    sine = x * (sine * z + 1.0);
    f64 cosine = -1.13596475577881948265e-11;
    cosine = cosine * z + 2.08757232129817482790e-09;
    cosine = cosine * z + -2.75573143513906633035e-07;
    cosine = cosine * z + 2.48015872894767294178e-05;
    cosine = cosine * z + -1.38888888888741095749e-03;
    cosine = cosine * z + 4.16666666666666019037e-02;
    cosine = cosine * z + -0.5;
    cosine = cosine * z + 1.0;
    const f64 value = quarter == 1.0 || quarter == 3.0 ? sine : cosine;
    return quarter == 1.0 || quarter == 2.0 ? -value : value;
}

// Standard normal, by Box and Muller.
DEVICE f64 normal(const Bits &bits) {
    const f64 u = 1.0 - unit(bits.word[0], bits.word[1]), v = unit(bits.word[2], bits.word[3]);
    return std::sqrt(-2.0 * logarithm(u)) * cos_of_turns(v);
}

// A double as an element: rounded to nearest; integers truncate and saturate, as `Scalar::from_f64` has it.
template <class T> DEVICE T element(f64 x) {
    if constexpr (std::is_integral_v<T>) {
        const i64 whole = to_integer(x), least = i64(std::numeric_limits<T>::min()), most = i64(std::numeric_limits<T>::max());
        return static_cast<T>(whole < least ? least : whole > most ? most : whole);
    } else {
        return cast<T>(x);
    }
}

// `a` and `b`: the bounds of a uniform draw, or mean and standard deviation of a normal one, or a the probability of 1.
enum Distribution : u32 { UNIFORM, NORMAL, BERNOULLI };

template <class T> DEVICE void draw(u32 n, u32 distribution, f64 a, f64 b, u64 seed, u64 offset, Global<const u64> begin,
                  Global<T> y) {
    const u32 i = block_x() * block_size() + thread_x();
    if (i >= n) return;
    const Bits bits = philox(seed, first(offset, begin) + i);
    if (distribution == NORMAL) {
        y[i] = element<T>(a + b * normal(bits));
        return;
    }
    const f64 u = unit(bits.word[0], bits.word[1]);
    if (distribution == BERNOULLI) {
        y[i] = element<T>(u < a ? 1.0 : 0.0);
        return;
    }
    const T drawn = element<T>(a + (b - a) * u);
    // Rounding to a narrow type may reach the bound that is excluded.
    y[i] = a < b && !(cast<f64>(drawn) < b) ? element<T>(a) : drawn;
}

// Integers in [low, low + range).
template <class T> DEVICE void draw_integers(u32 n, i64 low, u64 range, u64 seed, u64 offset, Global<const u64> begin,
                  Global<T> y) {
    const u32 i = block_x() * block_size() + thread_x();
    if (i >= n) return;
    const Bits bits = philox(seed, first(offset, begin) + i);
    // The upper 64 bits of the product of the word with the range.
    const u64 word = u64(bits.word[0]) << 32 | bits.word[1];
    const u64 lower = (word & 0xFFFFFFFFu) * (range & 0xFFFFFFFFu);
    const u64 cross = (word >> 32) * (range & 0xFFFFFFFFu) + (lower >> 32);
    const u64 other = (word & 0xFFFFFFFFu) * (range >> 32) + (cross & 0xFFFFFFFFu);
    const u64 high = (word >> 32) * (range >> 32) + (cross >> 32) + (other >> 32);
    y[i] = cast<T>(i64(u64(low) + high));
}

#define RANDOM(T)                                                                                                                \
    KERNEL_OF(256, random_##T,                                                                                                   \
              (u32 n, u32 distribution, f64 a, f64 b, u64 seed, u64 offset, Global<const u64> begin, Global<T> y)) {             \
        draw(n, distribution, a, b, seed, offset, begin, y);                                                                     \
    }                                                                                                                            \
    KERNEL_OF(256, random_integers_##T,                                                                                          \
              (u32 n, i64 low, u64 range, u64 seed, u64 offset, Global<const u64> begin, Global<T> y)) {                         \
        draw_integers(n, low, range, seed, offset, begin, y);                                                                    \
    }

FOR_NUMBERS(RANDOM)
RANDOM(boolean)

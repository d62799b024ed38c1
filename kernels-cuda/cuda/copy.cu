// Elements that only move, or change their type: copy_SIZE, cast_T_U, fill_SIZE, and ranges range_T.
#include "map.h"

#define COPY(T)                                                                                                                  \
    KERNEL_OF(MAP_THREADS, copy_##T, (PARAMETER Walk<2> walk, Global<T> y, Global<const T> x)) {                                 \
        map1(walk, y, x, [](T v) { return v; });                                                                                 \
    }                                                                                                                            \
    KERNEL_OF(MAP_THREADS, fill_##T, (PARAMETER Walk<1> walk, Global<T> y, T value)) {                                           \
        map0(walk, y, [=] { return value; });                                                                                    \
    }

FOR_SIZES(COPY)

#define CAST(T, U)                                                                                                               \
    KERNEL_OF(MAP_THREADS, cast_##T##_##U, (PARAMETER Walk<2> walk, Global<U> y, Global<const T> x)) {                           \
        map1(walk, y, x, [](T v) { return cast<U>(v); });                                                                        \
    }
#define CASTS(T)                                                                                                                 \
    CAST(T, f32) CAST(T, f64) CAST(T, f16) CAST(T, bf16) CAST(T, i64) CAST(T, i32) CAST(T, i8) CAST(T, u8) CAST(T, u32)          \
    CAST(T, boolean)

FOR_NUMBERS(CASTS)

// y[i] = start + i step: in 64-bit integers (`whole`) for integers, else in doubles.
#define RANGE(T)                                                                                                                 \
    KERNEL_OF(MAP_THREADS, range_##T, (u32 n, Global<T> y, u32 whole, i64 a, i64 b, f64 start, f64 step)) {                      \
        const u32 i = place();                                                                                                   \
        if (i >= n) return;                                                                                                      \
        y[i] = whole ? cast<T>(i64(u64(a) + u64(b) * i)) : cast<T>(start + step * f64(i));                                       \
    }

FOR_NUMBERS(RANGE)
RANGE(boolean)

// y = op(x): a kernel unary_OP_T for each row of op/unary.h.
#include "map.h"
#include "op/unary.h"

#define UNARY(op, T)                                                                                                             \
    KERNEL_OF(MAP_THREADS, unary_##op##_##T, (PARAMETER Walk<2> walk, Global<T> y, Global<const T> x)) {                         \
        map1(walk, y, x, [](T v) { return narrow<T>(unary::op(widen(v))); });                                                    \
    }

FLOAT_UNARY(UNARY, f32)
FLOAT_UNARY(UNARY, f64)
FLOAT_UNARY(UNARY, f16)
FLOAT_UNARY(UNARY, bf16)
INTEGER_UNARY(UNARY, i64)
INTEGER_UNARY(UNARY, i32)
INTEGER_UNARY(UNARY, i8)
INTEGER_UNARY(UNARY, u8)
INTEGER_UNARY(UNARY, u32)

// y = op(a, b): a kernel binary_OP_T for each row of op/binary.h. y may be a itself.
#include "map.h"
#include "op/binary.h"

#define BINARY(op, T)                                                                                                            \
    KERNEL_OF(MAP_THREADS, binary_##op##_##T, (PARAMETER Walk<3> walk, Global<T> y, Global<const T> a, Global<const T> b)) {     \
        map2(walk, y, a, b, [](T v, T w) { return narrow<T>(binary::op(widen(v), widen(w))); });                                 \
    }

FLOAT_BINARY(BINARY, f32)
FLOAT_BINARY(BINARY, f64)
FLOAT_BINARY(BINARY, f16)
FLOAT_BINARY(BINARY, bf16)
INTEGER_BINARY(BINARY, i64)
INTEGER_BINARY(BINARY, i32)
INTEGER_BINARY(BINARY, i8)
INTEGER_BINARY(BINARY, u8)
INTEGER_BINARY(BINARY, u32)

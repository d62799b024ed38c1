// gemm_naive_T: for integers, and the oracle of the other kernels.
#include "gemm/naive.h"

#define NAIVE(T)                                                                                                                 \
    KERNEL_OF(256, gemm_naive_##T,                                                                                               \
              (PARAMETER Product<Strided, Strided> p, u32 count, Global<T> y, Global<const T> a, Global<const T> b,              \
               Global<const T> bias)) {                                                                                          \
        multiply_naively(p, count, y, a, b, bias);                                                                               \
    }

FOR_NUMBERS(NAIVE)

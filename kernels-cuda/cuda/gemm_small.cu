// Products of many small matrices (gemm/small.h): gemm_small_T.
#include "gemm/small.h"

#define SMALL(T)                                                                                                                 \
    KERNEL_OF(SMALL_THREADS, gemm_small_##T,                                                                                     \
              (PARAMETER Small p, Global<T> y, Global<const T> a, Global<const T> b, Global<const T> bias)) {                    \
        multiply_small(p, y, a, b, bias);                                                                                        \
    }

FOR_FLOATS(SMALL)

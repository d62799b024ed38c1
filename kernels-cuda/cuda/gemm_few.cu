// Products with 1, 2, 4 or 8 columns at most (gemm/few.h): gemm_T_fewC_LAYOUT, where the layout says along which index the runs of 16
// bytes of the matrix lie, k or its rows.
#include "gemm/few.h"

// Threads of a block, and how many blocks a multiprocessor is to have at least.
#define BOUNDS_by_k FEW_THREADS
#define BOUNDS_by_rows FEW_THREADS, 2

#define FEW(T, columns, layout)                                                                                                  \
    KERNEL_OF(BOUNDS_##layout, gemm_##T##_few##columns##_##layout,                                                               \
              (PARAMETER Product<Strided, Strided> p, Global<T> y, Global<Wide<T>> partial, Global<const T> a,                   \
               Global<const T> b, Global<const T> bias)) {                                                                       \
        multiply_few_##layout<T, columns>(p, y, partial, a, b, bias);                                                            \
    }
#define COLUMNS(T, layout) FEW(T, 1, layout) FEW(T, 2, layout) FEW(T, 4, layout) FEW(T, 8, layout)
#define FEWS(T) COLUMNS(T, by_k) COLUMNS(T, by_rows)

FOR_FLOATS(FEWS)

// Questions whose answer is a bool: compare_OP_T of two elements, predicate_OP_T of one; and select_SIZE, which heeds an answer.
#include "map.h"

namespace question {

template <class R> DEVICE bool eq(R a, R b) { return a == b; }
template <class R> DEVICE bool ne(R a, R b) { return a != b; }
template <class R> DEVICE bool lt(R a, R b) { return a < b; }
template <class R> DEVICE bool le(R a, R b) { return a <= b; }
template <class R> DEVICE bool gt(R a, R b) { return a > b; }
template <class R> DEVICE bool ge(R a, R b) { return a >= b; }
template <class R> DEVICE bool logical_and(R a, R b) { return a != R(0) && b != R(0); }
template <class R> DEVICE bool logical_or(R a, R b) { return a != R(0) || b != R(0); }
template <class R> DEVICE bool logical_xor(R a, R b) { return (a != R(0)) != (b != R(0)); }

template <class R> DEVICE bool isnan(R x) { return x != x; }
template <class R> DEVICE bool isinf(R x) { return std::fabs(x) == R(INFINITY); }
template <class R> DEVICE bool isfinite(R x) { return std::fabs(x) < R(INFINITY); }
template <class R> DEVICE bool logical_not(R x) { return x == R(0); }

} // namespace question

#define COMPARE(op, T)                                                                                                           \
    KERNEL_OF(MAP_THREADS, compare_##op##_##T, (PARAMETER Walk<3> walk, Global<u8> y, Global<const T> a, Global<const T> b)) {   \
        map2(walk, y, a, b, [](T v, T w) { return u8(question::op(widen(v), widen(w))); });                                      \
    }
#define COMPARISONS(T)                                                                                                           \
    COMPARE(eq, T) COMPARE(ne, T) COMPARE(lt, T) COMPARE(le, T) COMPARE(gt, T) COMPARE(ge, T)                                    \
    COMPARE(logical_and, T) COMPARE(logical_or, T) COMPARE(logical_xor, T)

#define PREDICATE(op, T)                                                                                                         \
    KERNEL_OF(MAP_THREADS, predicate_##op##_##T, (PARAMETER Walk<2> walk, Global<u8> y, Global<const T> x)) {                    \
        map1(walk, y, x, [](T v) { return u8(question::op(widen(v))); });                                                        \
    }
#define FLOAT_PREDICATES(T) PREDICATE(isnan, T) PREDICATE(isinf, T) PREDICATE(isfinite, T) PREDICATE(logical_not, T)
#define INTEGER_PREDICATES(T) PREDICATE(logical_not, T)

FOR_NUMBERS(COMPARISONS)
FOR_FLOATS(FLOAT_PREDICATES)
FOR_INTEGERS(INTEGER_PREDICATES)

// y = c ? a : b.
#define SELECT(T)                                                                                                                \
    KERNEL_OF(MAP_THREADS, select_##T,                                                                                           \
              (PARAMETER Walk<4> walk, Global<T> y, Global<const u8> c, Global<const T> a, Global<const T> b)) {                 \
        map3(walk, y, c, a, b, [](u8 q, T v, T w) { return q ? v : w; });                                                        \
    }

FOR_SIZES(SELECT)

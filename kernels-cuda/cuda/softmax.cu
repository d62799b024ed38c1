// softmax(x) and its logarithm along lines, and their gradients from the result.
//
// y = e^(x - m) / s, or x - m - log s, with m the largest of the line and s = Σ e^(x - m).
// dx = y (g - Σ g y), or g - e^y Σ g.
// Launch: a group of threads for each line. Bytes: x three times, of which two come from a cache, and y once.
#include "group.h"
#include "op/reduce.h"
#include "walk.h"

template <class T>
DEVICE void softmax(const Walk<2> &lines, u32 n, i64 y_stride, i64 x_stride, u32 log_size, u32 logarithm, Global<T> y, Global<const T> x) {
    using A = Wide<T>;
    const Member member(log_size);
    const bool inside = member.line < lines.count;
    const u32 end = inside ? n : 0;
    i64 at[2] = {0, 0};
    if (inside) lines.offsets(member.line, at);
    A largest = -A(INFINITY);
    for (u32 i = member.index; i < end; i += member.size) largest = binary::maximum(largest, widen(x[at[1] + i * x_stride]));
    largest = across(member, largest, [](A a, A b) { return binary::maximum(a, b); });
    A sum = 0;
    for (u32 i = member.index; i < end; i += member.size) sum += std::exp(widen(x[at[1] + i * x_stride]) - largest);
    sum = across(member, sum, [](A a, A b) { return a + b; });
    const A shift = std::log(sum), scale = A(1) / sum;
    for (u32 i = member.index; i < end; i += member.size) {
        const A shifted = widen(x[at[1] + i * x_stride]) - largest;
        y[at[0] + i * y_stride] = narrow<T>(logarithm ? shifted - shift : std::exp(shifted) * scale);
    }
}

template <class T>
DEVICE void softmax_backward(const Walk<3> &lines, u32 n, i64 dx_stride, i64 g_stride, i64 y_stride, u32 log_size, u32 logarithm,
                             Global<T> dx, Global<const T> g, Global<const T> y) {
    using A = Wide<T>;
    const Member member(log_size);
    const bool inside = member.line < lines.count;
    const u32 end = inside ? n : 0;
    i64 at[3] = {0, 0, 0};
    if (inside) lines.offsets(member.line, at);
    A sum = 0;
    for (u32 i = member.index; i < end; i += member.size) {
        const A grad = widen(g[at[1] + i * g_stride]);
        sum += logarithm ? grad : grad * widen(y[at[2] + i * y_stride]);
    }
    sum = across(member, sum, [](A a, A b) { return a + b; });
    for (u32 i = member.index; i < end; i += member.size) {
        const A grad = widen(g[at[1] + i * g_stride]), value = widen(y[at[2] + i * y_stride]);
        dx[at[0] + i * dx_stride] = narrow<T>(logarithm ? grad - std::exp(value) * sum : value * (grad - sum));
    }
}

#define SOFTMAX(T)                                                                                                               \
    KERNEL_OF(GROUP_BLOCK, softmax_##T,                                                                                          \
              (PARAMETER Walk<2> lines, u32 n, i64 y_stride, i64 x_stride, u32 log_size, u32 logarithm, Global<T> y,             \
               Global<const T> x)) {                                                                                             \
        softmax(lines, n, y_stride, x_stride, log_size, logarithm, y, x);                                                        \
    }                                                                                                                            \
    KERNEL_OF(GROUP_BLOCK, softmax_backward_##T,                                                                                 \
              (PARAMETER Walk<3> lines, u32 n, i64 dx_stride, i64 g_stride, i64 y_stride, u32 log_size, u32 logarithm,           \
               Global<T> dx, Global<const T> g, Global<const T> y)) {                                                            \
        softmax_backward(lines, n, dx_stride, g_stride, y_stride, log_size, logarithm, dx, g, y);                                \
    }

FOR_FLOATS(SOFTMAX)

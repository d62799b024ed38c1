// The activation y = x + sin²(a x) / a, and its gradient.
//
// A thread for each element; bytes: each slice once. Launch: ceil(n / 256) blocks of 256 threads.
#include "slice.h"

#include <cmath>

KERNEL(snake, (Slice<float> y, Slice<const float> x, float a)) {
    const auto i = global_thread();
    if (i >= y.count) return;
    const float s = std::sin(a * x[i]);
    y[i] = x[i] + s * s / a;
}

// dx = g (1 + sin(2 a x))
KERNEL(snake_backward, (Slice<float> dx, Slice<const float> g, Slice<const float> x, float a)) {
    const auto i = global_thread();
    if (i < dx.count) dx[i] = g[i] * (1 + std::sin(2 * a * x[i]));
}

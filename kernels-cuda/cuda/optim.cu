// Steps of optimizers, and the norms that clip their gradients, for all tensors in one launch. The formulas are those of
// tensor/src/cpu/optim.rs, whose results the steps' are to the last bit: products are not fused with sums.
// nvcc: -fmad=false
//
// A table, which comes as a parameter, says where the tensors are; each block has a chunk of one of them.
// Launch: a block of TABLE_THREADS for each chunk. Bytes: parameter and state read and written once, the gradient read once.
#include "types.h"

constexpr int TABLE_THREADS = 256, TABLE_ENTRIES = 256;
constexpr u64 TABLE_CHUNK = 4096;

// Up to four tensors of as many elements, row-major.
struct Entry {
    u64 at[4];
    u64 elements;
    u32 first;  // of its chunks
    u32 vector; // whether all begin at multiples of 16 bytes
};

// `Table` of src/backend/optim/table.rs.
struct Table {
    u32 count, chunks;
    Entry entries[TABLE_ENTRIES];

    // The entry of a chunk: the last that begins with it or before.
    DEVICE u32 find(u32 chunk) const {
        u32 low = 0, high = count;
        while (high - low > 1) {
            const u32 middle = (low + high) / 2;
            if (entries[middle].first <= chunk) low = middle;
            else high = middle;
        }
        return low;
    }
};

// The chunk of the calling block: elements [start, end) of an entry.
struct Chunk {
    u32 entry;
    u64 start, end;

    DEVICE explicit Chunk(const Table &table) {
        entry = table.find(block_x());
        start = (block_x() - table.entries[entry].first) * TABLE_CHUNK;
        end = start + TABLE_CHUNK < table.entries[entry].elements ? start + TABLE_CHUNK : table.entries[entry].elements;
    }
};

template <class T> DEVICE Global<T> tensor_of(const Table &table, u32 entry, int which) {
    return {reinterpret_cast<T *>(static_cast<std::uintptr_t>(table.entries[entry].at[which]))};
}

// f changes the elements of N tensors at a place, the first WRITTEN of which are written back.
template <int WRITTEN, int N, class T, class F> DEVICE void step(const Table &table, F f) {
    const Chunk chunk(table);
    Global<T> arrays[N];
    UNROLL for (int k = 0; k < N; k++) arrays[k] = tensor_of<T>(table, chunk.entry, k);
    constexpr u64 V = 16 / sizeof(T);
    u64 whole = chunk.start;
    T values[N];
    if (table.entries[chunk.entry].vector) {
        whole = chunk.start + (chunk.end - chunk.start) / V * V;
        for (u64 i = chunk.start + thread_x() * V; i < whole; i += TABLE_THREADS * V) {
            Vec<T, V> vectors[N];
            UNROLL for (int k = 0; k < N; k++) vectors[k] = arrays[k].template load_vector<V>(i);
            UNROLL for (u64 j = 0; j < V; j++) {
                UNROLL for (int k = 0; k < N; k++) values[k] = vectors[k][j];
                f(values);
                UNROLL for (int k = 0; k < WRITTEN; k++) vectors[k][j] = values[k];
            }
            UNROLL for (int k = 0; k < WRITTEN; k++) arrays[k].template store_vector<V>(i, vectors[k]);
        }
    }
    for (u64 i = whole + thread_x(); i < chunk.end; i += TABLE_THREADS) {
        UNROLL for (int k = 0; k < N; k++) values[k] = arrays[k][i];
        f(values);
        UNROLL for (int k = 0; k < WRITTEN; k++) arrays[k][i] = values[k];
    }
}

// The gradient times the factor that clips it, if there is one, and that of the step, with its L2 penalty. Without a penalty the parameter
// is not looked at: an infinite one would make it NaN.
template <class T> struct Penalty {
    bool clipped;
    T clip, factor, decay;

    DEVICE Penalty(Global<const T> clip_, f64 scale, f64 decay_)
        : clipped(clip_.pointer != nullptr), clip(clipped ? T(clip_[0]) : T(1)), factor(T(scale)), decay(T(decay_)) {}

    DEVICE T operator()(T g, T p) const {
        const T scaled = (clipped ? g * clip : g) * factor;
        return decay == T(0) ? scaled : scaled + p * decay;
    }
};

// p -= lr (g + decay p), of p and g.
#define SGD(T)                                                                                                                   \
    KERNEL_OF(TABLE_THREADS, sgd_##T, (PARAMETER Table table, Global<const T> clip, f64 lr, f64 decay, f64 scale)) {             \
        const Penalty<T> penalised(clip, scale, decay);                                                                          \
        const T rate = T(lr);                                                                                                    \
        step<1, 2, T>(table, [=](T(&v)[2]) { v[0] = v[0] - penalised(v[1], v[0]) * rate; });                                     \
    }

// m = momentum m + (1 - dampening) g, or g in the first step; p -= lr m, or lr (g + momentum m) with Nesterov's; of p, m and g.
#define MOMENTUM(T)                                                                                                              \
    KERNEL_OF(TABLE_THREADS, momentum_##T,                                                                                       \
              (PARAMETER Table table, Global<const T> clip, f64 lr, f64 decay, f64 scale, f64 momentum, f64 share, u32 first,    \
               u32 nesterov)) {                                                                                                  \
        const Penalty<T> penalised(clip, scale, decay);                                                                          \
        const T rate = T(lr), keep = T(momentum), take = T(share);                                                               \
        step<2, 3, T>(table, [=](T(&v)[3]) {                                                                                     \
            const T grad = penalised(v[2], v[0]);                                                                                \
            const T velocity = first ? grad : v[1] * keep + grad * take;                                                         \
            const T direction = nesterov ? grad + velocity * keep : velocity;                                                    \
            v[0] = v[0] - direction * rate;                                                                                      \
            v[1] = velocity;                                                                                                     \
        });                                                                                                                      \
    }

// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g², p = shrunk p - rate m / (√v / root + eps); of p, m, v and g. `corrections` may
// lead to root and rate, which differ from step to step: that is how a graph's replays get them.
#define ADAM(T)                                                                                                                  \
    KERNEL_OF(TABLE_THREADS, adam_##T,                                                                                           \
              (PARAMETER Table table, Global<const T> clip, f64 scale, f64 decay, f64 shrunk, f64 beta1, f64 beta2, f64 root,    \
               f64 eps, f64 rate, Global<const f64> corrections)) {                                                              \
        if (corrections.pointer) root = corrections[0], rate = corrections[1];                                                   \
        const Penalty<T> penalised(clip, scale, decay);                                                                          \
        const T kept = T(shrunk), b1 = T(beta1), b2 = T(beta2), c1 = T(1 - beta1), c2 = T(1 - beta2), r = T(root), e = T(eps),   \
                by = T(rate);                                                                                                    \
        step<3, 4, T>(table, [=](T(&v)[4]) {                                                                                     \
            const T grad = penalised(v[3], v[0]);                                                                                \
            v[1] = v[1] * b1 + grad * c1;                                                                                        \
            v[2] = v[2] * b2 + grad * grad * c2;                                                                                 \
            v[0] = v[0] * kept - v[1] / (std::sqrt(v[2]) / r + e) * by;                                                          \
        });                                                                                                                      \
    }

SGD(f32)
SGD(f64)
MOMENTUM(f32)
MOMENTUM(f64)
ADAM(f32)
ADAM(f64)

// The sum of what the threads of a block have, in an order that is always the same; known to its first thread.
template <class A> DEVICE A total(A value) {
    SHARED(A, of_warps, TABLE_THREADS / 32);
    UNROLL for (u32 by = 16; by > 0; by /= 2) value += shuffle_down(value, by);
    if (lane() == 0) of_warps[warp()] = value;
    block_sync();
    A sum = of_warps[0];
    for (u32 i = 1; i < TABLE_THREADS / 32; i++) sum += A(of_warps[i]);
    return sum;
}

// Sums of squares of chunks, and then of tensors their roots: a block for each chunk, and for each tensor.
#define NORMS(T)                                                                                                                 \
    KERNEL_OF(TABLE_THREADS, squares_##T, (PARAMETER Table table, Global<Wide<T>> sums)) {                                       \
        const Chunk chunk(table);                                                                                                \
        const auto x = tensor_of<const T>(table, chunk.entry, 0);                                                                \
        Wide<T> sum = 0;                                                                                                         \
        for (u64 i = chunk.start + thread_x(); i < chunk.end; i += TABLE_THREADS) {                                              \
            const Wide<T> one = widen(T(x[i]));                                                                                  \
            sum += one * one;                                                                                                    \
        }                                                                                                                        \
        sum = total(sum);                                                                                                        \
        if (thread_x() == 0) sums[block_x()] = sum;                                                                              \
    }
FOR_FLOATS(NORMS)

#define ROOTS(A)                                                                                                                 \
    KERNEL_OF(TABLE_THREADS, norms_##A, (PARAMETER Table table, Global<A> norms, Global<const A> sums)) {                        \
        const u32 first = table.entries[block_x()].first;                                                                        \
        const u32 end = block_x() + 1 < table.count ? table.entries[block_x() + 1].first : table.chunks;                         \
        A sum = 0;                                                                                                               \
        for (u32 i = first + thread_x(); i < end; i += TABLE_THREADS) sum += sums[i];                                            \
        sum = total(sum);                                                                                                        \
        if (thread_x() == 0) norms[block_x()] = std::sqrt(sum);                                                                  \
    }
ROOTS(f32)
ROOTS(f64)

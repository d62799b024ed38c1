// Matrix products of 16-bit floats on tensor cores (mma.sync m16n8k16, sm_80 and later), sums in float.
//
// A block computes BM x BN sums with WARPS_M x WARPS_N warps; k goes in steps of 32 through a ring of 4 stages in shared memory, which
// asynchronous copies fill three steps ahead. Operands whose runs of 16 bytes are not whole or not aligned are brought element
// by element instead.
//
// Shared memory: 4 · 32 (BM + BN) elements, dynamic. A tile lies as its operand does, [row][k] or [k][row], in runs of 8 elements that
// are permuted within a row, so that the eight rows that ldmatrix takes together lie in different banks.
#pragma once

#include "store.h"

constexpr int MMA_DEPTH = 32, MMA_STAGES = 4;

// Where the run of 8 elements from (row, k) on lies in a tile.
template <int ROWS, bool BY_K> DEVICE u32 place_of_run(u32 row, u32 k) {
    if constexpr (BY_K) return row * MMA_DEPTH + (k / 8 ^ row / 2 % 4) * 8; // two rows of 64 bytes in all banks
    else return k * ROWS + (row / 8 ^ k % 8) * 8;
}

// Brings an operand's tiles to shared memory.
template <class T, class Operand, int ROWS, int THREADS, bool BY_K> struct Copier {
    using Part = Share<T, ROWS, MMA_DEPTH, THREADS, BY_K>;
    using Place = typename Operand::Place;
    static constexpr int V = 8, CHUNKS = Part::CHUNKS, PLACES = BY_K ? CHUNKS : 1;

    Place places[PLACES]; // of the first row of each run
    u32 first, rows;

    DEVICE void begin(const Operand &o, u32 row0, u32 rows_) {
        first = row0, rows = rows_;
        UNROLL for (int p = 0; p < PLACES; p++) places[p] = o.row_at(row0 + Part::row(p));
    }

    // The tile from k0 on; what lies from `to` on, or beyond the last row, is 0.
    DEVICE void copy(const Operand &o, Global<const T> x, u32 k0, u32 to, const Shared<T> &tile, u32 base) const {
        Place column;
        UNROLL for (int c = 0; c < CHUNKS; c++) {
            const u32 k = k0 + Part::k(c), at = base + place_of_run<ROWS, BY_K>(Part::row(c), Part::k(c));
            if (Operand::RUNS_ONLY || o.vector) {
                if (c == 0 || !BY_K) column = o.column_at(k);
                const Place &row = places[BY_K ? c : 0];
                const bool inside = first + Part::row(c) < rows && k < to && o.meet(row, column);
                copy_async16(tile, at, x, inside ? row.offset + column.offset : 0, inside ? 16 : 0);
            } else if constexpr (!Operand::RUNS_ONLY) tile.template store_vector<V>(at, elements(o, x, c, k, to));
        }
    }

  private:
    DEVICE Vec<T, V> elements(const Operand &o, Global<const T> x, int c, u32 k, u32 to) const {
        Vec<T, V> values;
        const Place fixed = BY_K ? places[c] : o.column_at(k);
        UNROLL for (int v = 0; v < V; v++) {
            const u32 i = first + Part::row(c) + (BY_K ? 0 : v), l = k + (BY_K ? v : 0);
            const Place moving = BY_K ? o.column_at(l) : o.row_at(i);
            const bool inside = i < rows && l < to && o.meet(BY_K ? fixed : moving, BY_K ? moving : fixed);
            values[v] = inside ? T(x[fixed.offset + moving.offset]) : T{0};
        }
        return values;
    }
};

// The fragment of 16 rows and 16 of k that lies in a tile from (row, k) on, for the left operand: four matrices of 8 x 8, of rows
// 0-7 and 8-15, then the same of k 8-15.
template <int ROWS, bool BY_K, class T> DEVICE Vec<u32, 4> left_fragment(const Shared<T> &tile, u32 base, u32 row, u32 k) {
    const u32 l = lane();
    if constexpr (BY_K) return ldmatrix_x4(tile, base + place_of_run<ROWS, BY_K>(row + l % 16, k + l / 16 * 8));
    else return ldmatrix_x4_trans(tile, base + place_of_run<ROWS, BY_K>(row + l / 8 % 2 * 8, k + l % 8 + l / 16 * 8));
}

// The same for the right one, where the second of the four is that of k 8-15: two fragments of 8 columns.
template <int ROWS, bool BY_K, class T> DEVICE Vec<u32, 4> right_fragments(const Shared<T> &tile, u32 base, u32 column, u32 k) {
    const u32 l = lane();
    if constexpr (BY_K) return ldmatrix_x4(tile, base + place_of_run<ROWS, BY_K>(column + l % 8 + l / 16 * 8, k + l / 8 % 2 * 8));
    else return ldmatrix_x4_trans(tile, base + place_of_run<ROWS, BY_K>(column + l / 16 * 8, k + l % 8 + l / 8 % 2 * 8));
}

template <class T, int BM, int BN, int WARPS_M, int WARPS_N, bool A_BY_K, bool B_BY_K, class A, class B>
DEVICE void multiply_on_tensor_cores(const Product<A, B> &p, Global<T> y, Global<f32> partial, Global<const T> a, Global<const T> b,
                                     Global<const T> bias) {
    constexpr int THREADS = 32 * WARPS_M * WARPS_N, WARP_ROWS = BM / WARPS_M, WARP_COLUMNS = BN / WARPS_N;
    constexpr int M = WARP_ROWS / 16, N = WARP_COLUMNS / 8, SIZE_A = BM * MMA_DEPTH, STAGE = SIZE_A + BN * MMA_DEPTH;
    DYNAMIC_SHARED(T, ring);

    const Task task(p);
    const u32 row0 = task.row * BM, column0 = task.column * BN;
    const u32 row = warp() / WARPS_N * WARP_ROWS, column = warp() % WARPS_N * WARP_COLUMNS;
    const Global<const T> x = a + task.at[1], w = b + task.at[2];
    Copier<T, A, BM, THREADS, A_BY_K> of_a;
    Copier<T, B, BN, THREADS, B_BY_K> of_b;
    of_a.begin(p.a, row0, p.out.m());
    of_b.begin(p.b, column0, p.out.n());
    auto fetch = [&](u32 k0, u32 stage) {
        if (k0 < task.to) {
            of_a.copy(p.a, x, k0, task.to, ring, stage * STAGE);
            of_b.copy(p.b, w, k0, task.to, ring, stage * STAGE + SIZE_A);
        }
        copy_async_commit(); // an empty group counts too
    };
    ROLLED for (u32 stage = 0; stage + 1 < MMA_STAGES; stage++) fetch(task.from + stage * MMA_DEPTH, stage);

    f32 sums[M][N][4] = {};
    u32 stage = 0;
    ROLLED for (u32 k0 = task.from; k0 < task.to; k0 += MMA_DEPTH) {
        copy_async_wait<MMA_STAGES - 2>();
        block_sync(); // everybody's copies have arrived, and the stage of the last step is free
        fetch(k0 + (MMA_STAGES - 1) * MMA_DEPTH, (stage + MMA_STAGES - 1) % MMA_STAGES);
        const u32 base = stage * STAGE;
        UNROLL for (u32 k = 0; k < MMA_DEPTH; k += 16) {
            Vec<u32, 4> u[M], v[N / 2];
            UNROLL for (int i = 0; i < M; i++) u[i] = left_fragment<BM, A_BY_K>(ring, base, row + 16 * i, k);
            UNROLL for (int j = 0; j < N / 2; j++) v[j] = right_fragments<BN, B_BY_K>(ring, base + SIZE_A, column + 16 * j, k);
            UNROLL for (int i = 0; i < M; i++)
                UNROLL for (int j = 0; j < N; j++) {
                    const Vec<u32, 2> half{{v[j / 2][j % 2 * 2], v[j / 2][j % 2 * 2 + 1]}};
                    mma_16816<T>(sums[i][j], u[i], half);
                }
        }
        stage = (stage + 1) % MMA_STAGES;
    }
    copy_async_wait<0>();
    block_sync(); // the ring is free

    // The sums leave in as many pieces as they need to fit into it. Of each warp's rows, a piece has those of PIECE fragments; a thread
    // has two neighbours of a row, and of the row 8 further down.
    constexpr int PIECES = (BM * BN * 4 + MMA_STAGES * STAGE * 2 - 1) / (MMA_STAGES * STAGE * 2), PIECE = M / PIECES;
    static_assert(M % PIECES == 0, "a piece is whole fragments");
    constexpr u32 OF_WARP = 16 * PIECE;
    using Out = Stage<BM / PIECES, BN, THREADS, f32>;
    DYNAMIC_SHARED(f32, out);
    ROLLED for (u32 piece = 0; piece < PIECES; piece++) {
        UNROLL for (u32 i = 0; i < M; i++)
            if (i / PIECE == piece) UNROLL for (int half = 0; half < 2; half++)
                UNROLL for (int j = 0; j < N; j++) {
                    const f32 pair[2] = {sums[i][j][2 * half], sums[i][j][2 * half + 1]};
                    Out::template put<2>(out, warp() / WARPS_N * OF_WARP + i % PIECE * 16 + lane() / 4 + 8 * half, column + 8 * j + lane() % 4 * 2, pair);
                }
        block_sync();
        Out::store(out, p, task, y, partial, bias, column0,
                   [&](u32 r) { return row0 + r / OF_WARP * WARP_ROWS + piece * OF_WARP + r % OF_WARP; });
        block_sync();
    }
}

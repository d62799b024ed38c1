// Matrix products on tensor cores (mma.sync, sm_80 and later) by one of the units of unit.h.
//
// A block computes BM x BN sums with WARPS_M x WARPS_N warps; k goes in steps of 64 bytes through a ring of 4 stages in shared memory,
// which asynchronous copies fill three steps ahead. Operands whose runs of 16 bytes are not whole or not aligned are brought element
// by element instead.
//
// Shared memory: 4 · 64 (BM + BN) bytes, dynamic: tiles that lie as their operands do, and then the sums.
#pragma once

#include "store.h"
#include "unit.h"

constexpr int MMA_STAGES = 4;

// Brings an operand's tiles to shared memory.
template <class T, class Operand, int ROWS, int THREADS, bool BY_K> struct Copier {
    using Part = Share<T, ROWS, DEPTH<T>, THREADS, BY_K>;
    using Place = typename Operand::Place;
    static constexpr int V = RUN<T>, CHUNKS = Part::CHUNKS, PLACES = BY_K ? CHUNKS : 1;

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
            const u32 k = k0 + Part::k(c), at = base + place_of_run<T, ROWS, BY_K>(Part::row(c), Part::k(c));
            if (Operand::RUNS_ONLY || o.vector) {
                if (c == 0 || !BY_K) column = o.column_at(k);
                const Place &row = places[BY_K ? c : 0];
                const bool inside = first + Part::row(c) < rows && k < to && o.meet(row, column);
                copy_async16(tile, at, x, inside ? row.offset + column.offset : 0, inside ? 16 : 0);
            } else if constexpr (!Operand::RUNS_ONLY) tile.template store_vector<V>(at, elements(o, x, c, k, to));
        }
    }

    // Whether all that this thread brought is what the unit takes.
    template <class Unit> DEVICE static bool picks(const Shared<T> &tile, u32 base) {
        bool all = true;
        UNROLL for (int c = 0; c < CHUNKS; c++) {
            const Vec<T, V> run = tile.template load_vector<V>(base + place_of_run<T, ROWS, BY_K>(Part::row(c), Part::k(c)));
            UNROLL for (int v = 0; v < V; v++) all = all && Unit::picks(run[v]);
        }
        return all;
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

// A block's product. M x N fragments of 16 rows and 8 columns are a warp's; a thread has two neighbours of a row in each, and of the row
// 8 further down.
template <class Unit, int BM, int BN, int WARPS_M, int WARPS_N, bool A_BY_K, bool B_BY_K> struct Block {
    using T = typename Unit::Element;
    using S = typename Unit::Sum;
    static constexpr int THREADS = 32 * WARPS_M * WARPS_N, WARP_ROWS = BM / WARPS_M, WARP_COLUMNS = BN / WARPS_N;
    static constexpr int M = WARP_ROWS / 16, N = WARP_COLUMNS / 8, D = DEPTH<T>, SIZE_A = BM * D, STAGE = SIZE_A + BN * D;
    using Sums = S[M][N][4];

    // Adds a step of k.
    DEVICE static void multiply(Sums &sums, const Shared<T> &ring, u32 base, u32 row, u32 column) {
        UNROLL for (u32 k = 0; k < D; k += Unit::K) {
            typename Unit::Left u[M];
            typename Unit::Right v[N / 2][2];
            UNROLL for (int i = 0; i < M; i++) u[i] = Unit::template left<BM, A_BY_K>(ring, base, row + 16 * i, k);
            UNROLL for (int j = 0; j < N / 2; j++) Unit::template right<BN, B_BY_K>(ring, base + SIZE_A, column + 16 * j, k, v[j]);
            UNROLL for (int i = 0; i < M; i++)
                UNROLL for (int j = 0; j < N; j++) Unit::multiply(sums[i][j], u[i], v[j / 2][j % 2]);
        }
    }

    // The same by ordinary multiply-adds.
    DEVICE static void multiply_exactly(Sums &sums, const Shared<T> &ring, u32 base, u32 row, u32 column) {
        ROLLED for (u32 k = 0; k < D; k++) {
            S u[M][2], v[N][2];
            UNROLL for (u32 i = 0; i < 2 * M; i++) u[i / 2][i % 2] = ring[base + place_of<T, BM, A_BY_K>(row + 8 * i + lane() / 4, k)];
            UNROLL for (u32 j = 0; j < 2 * N; j++)
                v[j / 2][j % 2] = ring[base + SIZE_A + place_of<T, BN, B_BY_K>(column + j / 2 * 8 + lane() % 4 * 2 + j % 2, k)];
            UNROLL for (int i = 0; i < M; i++)
                UNROLL for (int j = 0; j < N; j++)
                    UNROLL for (int e = 0; e < 4; e++) sums[i][j][e] += u[i][e / 2] * v[j][e % 2];
        }
    }

    // Takes the sums out, in as many pieces as they need to fit into the ring. Of each warp's rows, a piece has those of PIECE fragments.
    template <class P, class Y>
    DEVICE static void store(const Sums &sums, const P &p, const Task &task, u32 column, Global<Y> y, Global<S> partial, Global<const Y> bias) {
        constexpr int BYTES = MMA_STAGES * STAGE * sizeof(T), PIECES = (BM * BN * sizeof(S) + BYTES - 1) / BYTES, PIECE = M / PIECES;
        static_assert(M % PIECES == 0, "a piece is whole fragments");
        constexpr u32 OF_WARP = 16 * PIECE;
        using Out = Stage<BM / PIECES, BN, THREADS, S>;
        DYNAMIC_SHARED(S, out);
        ROLLED for (u32 piece = 0; piece < PIECES; piece++) {
            UNROLL for (u32 i = 0; i < M; i++)
                if (i / PIECE == piece) UNROLL for (int half = 0; half < 2; half++)
                    UNROLL for (int j = 0; j < N; j++) {
                        const S pair[2] = {sums[i][j][2 * half], sums[i][j][2 * half + 1]};
                        const u32 row = warp() / WARPS_N * OF_WARP + i % PIECE * 16 + lane() / 4 + 8 * half;
                        Out::template put<2>(out, row, column + 8 * j + lane() % 4 * 2, pair);
                    }
            block_sync();
            Out::store(out, p, task, y, partial, bias, task.column * BN,
                       [&](u32 r) { return task.row * BM + r / OF_WARP * WARP_ROWS + piece * OF_WARP + r % OF_WARP; });
            block_sync();
        }
    }
};

template <class Unit, int BM, int BN, int WARPS_M, int WARPS_N, bool A_BY_K, bool B_BY_K, class A, class B, class T, class S>
DEVICE void multiply_on_tensor_cores(const Product<A, B> &p, Global<T> y, Global<S> partial, Global<const T> a, Global<const T> b,
                                     Global<const T> bias) {
    using Of = Block<Unit, BM, BN, WARPS_M, WARPS_N, A_BY_K, B_BY_K>;
    DYNAMIC_SHARED(T, ring);

    const Task task(p);
    const u32 row = warp() / WARPS_N * Of::WARP_ROWS, column = warp() % WARPS_N * Of::WARP_COLUMNS;
    const Global<const T> x = a + task.at[1], w = b + task.at[2];
    Copier<T, A, BM, Of::THREADS, A_BY_K> of_a;
    Copier<T, B, BN, Of::THREADS, B_BY_K> of_b;
    of_a.begin(p.a, task.row * BM, p.out.m());
    of_b.begin(p.b, task.column * BN, p.out.n());
    auto fetch = [&](u32 k0, u32 stage) {
        if (k0 < task.to) {
            of_a.copy(p.a, x, k0, task.to, ring, stage * Of::STAGE);
            of_b.copy(p.b, w, k0, task.to, ring, stage * Of::STAGE + Of::SIZE_A);
        }
        copy_async_commit(); // an empty group counts too
    };
    ROLLED for (u32 stage = 0; stage + 1 < MMA_STAGES; stage++) fetch(task.from + stage * Of::D, stage);

    typename Of::Sums sums = {};
    u32 stage = 0;
    ROLLED for (u32 k0 = task.from; k0 < task.to; k0 += Of::D) {
        const u32 base = stage * Of::STAGE;
        copy_async_wait<MMA_STAGES - 2>();
        bool exactly = false;
        // Everybody's copies have arrived, and the stage of the last step is free.
        if constexpr (Unit::PICKY) {
            const bool picks = of_a.template picks<Unit>(ring, base) && of_b.template picks<Unit>(ring, base + Of::SIZE_A);
            exactly = block_any(!picks);
        } else block_sync();
        fetch(k0 + (MMA_STAGES - 1) * Of::D, (stage + MMA_STAGES - 1) % MMA_STAGES);
        if constexpr (Unit::PICKY) {
            if (exactly) Of::multiply_exactly(sums, ring, base, row, column);
        }
        if (!exactly) Of::multiply(sums, ring, base, row, column);
        stage = (stage + 1) % MMA_STAGES;
    }
    copy_async_wait<0>();
    block_sync(); // the ring is free
    Of::store(sums, p, task, column, y, partial, bias);
}

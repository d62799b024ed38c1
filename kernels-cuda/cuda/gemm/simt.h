// Matrix products with ordinary multiply-adds, for f32 and f64: tiles in shared memory, sums in registers.
//
// A block of 256 threads computes BM x BN sums; k goes in steps of DEPTH, through two buffers: while one is multiplied, the next
// tile is on its way from global memory to registers. A warp has 8 x 4 threads, each with QM x QN squares of P x P sums
// (P elements are 16 bytes), so that a warp's reads of shared memory are vectors of 16 bytes without bank conflicts.
//
// Shared memory: 2 DEPTH (BM + BN + 2 P) elements, [k][row], and then the sums. Global memory: BM + BN elements for 2 BM BN operations a step of k.
#pragma once

#include "store.h"

// What a thread holds of the next tile of one operand.
template <class T, class Operand, int ROWS, int DEPTH, int THREADS, bool BY_K> struct Held {
    using Part = Share<T, ROWS, DEPTH, THREADS, BY_K>;
    using Place = typename Operand::Place;
    static constexpr int V = Part::V, CHUNKS = Part::CHUNKS, PITCH = ROWS + V;
    static constexpr int PLACES = BY_K ? CHUNKS : V;

    Place places[PLACES]; // of the rows
    u32 inside;           // bit p: row p exists
    Vec<T, V> values[CHUNKS];

    DEVICE void begin(const Operand &o, u32 row0, u32 rows) {
        inside = 0;
        UNROLL for (int p = 0; p < PLACES; p++) {
            const u32 i = row0 + (BY_K ? Part::row(p) : Part::row(0) + p);
            places[p] = o.row_at(i);
            inside |= u32(i < rows) << p;
        }
    }

    // Takes the tile from k0 on; what lies from `to` on is 0.
    DEVICE void load(const Operand &o, Global<const T> x, u32 k0, u32 to) {
        if (Operand::RUNS_ONLY || o.vector) load_runs(o, x, k0, to);
        else if constexpr (!Operand::RUNS_ONLY) load_elements(o, x, k0, to);
    }

    // Writes it to shared memory.
    DEVICE void store(const Shared<T> &tile, i64 base) const {
        UNROLL for (int c = 0; c < CHUNKS; c++) {
            const i64 at = base + i64(Part::k(c)) * PITCH + Part::row(c);
            if constexpr (!BY_K) tile.template store_vector<V>(at, values[c]);
            else UNROLL for (int v = 0; v < V; v++) tile[at + v * PITCH] = values[c][v];
        }
    }

  private:
    DEVICE void load_runs(const Operand &o, Global<const T> x, u32 k0, u32 to) {
        Place column;
        UNROLL for (int c = 0; c < CHUNKS; c++) {
            const u32 k = k0 + Part::k(c);
            const int p = BY_K ? c : 0;
            if (c == 0 || !BY_K) column = o.column_at(k);
            if (inside >> p & 1 && k < to && o.meet(places[p], column))
                values[c] = x.template load_vector<V>(places[p].offset + column.offset);
            else values[c] = {};
        }
    }

    DEVICE void load_elements(const Operand &o, Global<const T> x, u32 k0, u32 to) {
        Place column;
        UNROLL for (int v = 0; v < V; v++)
            UNROLL for (int c = 0; c < CHUNKS; c++) {
                const u32 k = k0 + Part::k(c) + (BY_K ? v : 0);
                const int p = BY_K ? c : v;
                if (c == 0 || !BY_K) column = o.column_at(k);
                values[c][v] = inside >> p & 1 && k < to && o.meet(places[p], column) ? x[places[p].offset + column.offset] : T(0);
            }
    }
};

template <class T, int BM, int BN, int DEPTH, int QM, int QN, bool A_BY_K, bool B_BY_K, class A, class B>
DEVICE void multiply(const Product<A, B> &p, Global<T> y, Global<T> partial, Global<const T> a, Global<const T> b, Global<const T> bias) {
    constexpr int P = 16 / sizeof(T), THREADS = 256;
    constexpr int WARP_ROWS = 8 * P * QM, WARP_COLUMNS = 4 * P * QN;
    static_assert(BM / WARP_ROWS * (BN / WARP_COLUMNS) * 32 == THREADS, "eight warps cover the tile");
    using HeldA = Held<T, A, BM, DEPTH, THREADS, A_BY_K>;
    using HeldB = Held<T, B, BN, DEPTH, THREADS, B_BY_K>;
    constexpr int SIZE_A = DEPTH * HeldA::PITCH, SIZE_B = DEPTH * HeldB::PITCH;
    // The sums leave in as many pieces as they need to fit into the memory that the operands had.
    constexpr int SIZE = 2 * (SIZE_A + SIZE_B), PIECES = (BM * BN + SIZE - 1) / SIZE, PIECE = QM / PIECES;
    static_assert(QM % PIECES == 0, "a piece is whole squares");
    using Out = Stage<BM / PIECES, BN, THREADS, T>;
    SHARED(T, memory, SIZE);

    const Task task(p);
    const u32 row0 = task.row * BM, column0 = task.column * BN;
    const u32 row = warp() / (BN / WARP_COLUMNS) * WARP_ROWS + lane() / 4 * P;
    const u32 column = warp() % (BN / WARP_COLUMNS) * WARP_COLUMNS + lane() % 4 * P;
    const Global<const T> x = a + task.at[1], w = b + task.at[2];
    HeldA next_a;
    HeldB next_b;
    next_a.begin(p.a, row0, p.out.m());
    next_b.begin(p.b, column0, p.out.n());
    T sums[QM][QN][P][P] = {};
    if (task.from < task.to) {
        next_a.load(p.a, x, task.from, task.to);
        next_b.load(p.b, w, task.from, task.to);
        next_a.store(memory, 0);
        next_b.store(memory, 2 * SIZE_A);
    }
    block_sync();
    u32 buffer = 0;
    ROLLED for (u32 k0 = task.from; k0 < task.to; k0 += DEPTH) {
        const bool more = task.to - k0 > DEPTH;
        if (more) {
            next_a.load(p.a, x, k0 + DEPTH, task.to);
            next_b.load(p.b, w, k0 + DEPTH, task.to);
        }
        UNROLL for (int k = 0; k < DEPTH; k++) {
            Vec<T, P> u[QM], v[QN];
            UNROLL for (int q = 0; q < QM; q++)
                u[q] = memory.template load_vector<P>(buffer * SIZE_A + k * HeldA::PITCH + row + q * 8 * P);
            UNROLL for (int q = 0; q < QN; q++)
                v[q] = memory.template load_vector<P>(2 * SIZE_A + buffer * SIZE_B + k * HeldB::PITCH + column + q * 4 * P);
            UNROLL for (int q = 0; q < QM; q++)
                UNROLL for (int r = 0; r < QN; r++)
                    UNROLL for (int i = 0; i < P; i++)
                        UNROLL for (int j = 0; j < P; j++) sums[q][r][i][j] += u[q][i] * v[r][j];
        }
        buffer ^= 1;
        // The other buffer was read in the last step, before its barrier.
        if (more) {
            next_a.store(memory, buffer * SIZE_A);
            next_b.store(memory, 2 * SIZE_A + buffer * SIZE_B);
        }
        block_sync();
    }
    // Of each warp's rows, a piece has those of PIECE squares.
    constexpr u32 OF_WARP = 8 * P * PIECE;
    const u32 out_row = warp() / (BN / WARP_COLUMNS) * OF_WARP + lane() / 4 * P;
    ROLLED for (u32 piece = 0; piece < PIECES; piece++) {
        UNROLL for (u32 q = 0; q < QM; q++)
            if (q / PIECE == piece) UNROLL for (int i = 0; i < P; i++)
                UNROLL for (int r = 0; r < QN; r++) Out::put(memory, out_row + q % PIECE * 8 * P + i, column + r * 4 * P, sums[q][r][i]);
        block_sync();
        Out::store(memory, p, task, y, partial, bias, column0,
                   [&](u32 r) { return row0 + r / OF_WARP * WARP_ROWS + piece * OF_WARP + r % OF_WARP; });
        block_sync();
    }
}

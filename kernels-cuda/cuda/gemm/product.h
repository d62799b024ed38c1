// What a matrix product is made of, and which part of it a block computes: the structures of src/backend/gemm/product.rs.
//
//   Y[z, i, j] = activation(Σ over k of A[z, i, k] B[z, k, j] (+ bias) (+ residual))
//
// Launch: a block for each tile of the result, of each part of k, of each matrix z. With several parts of k each block writes its sums
// to `partial`, [z, part, i, j], and sum_parts_T adds them in the order of the parts: results do not depend on who is done first.
#pragma once

#include "epilogue.h"
#include "operand.h"

// Sums of integers wrap, so that they are the same in whatever is as wide.
template <class T> using Sum = std::conditional_t<std::is_integral_v<T>, std::conditional_t<sizeof(T) == 8, u64, u32>, Wide<T>>;

// Where results go, and the bias that is added to them.
struct Output {
    Divisor rows, columns; // m and n
    u32 with_bias;
    u32 vector; // whether runs of 16 bytes along a row are whole and aligned
    Axis row, column;
    i64 bias_row, bias_column; // strides
    Walk<4> batch;             // over z: of y, a, b and bias
    Epilogue epilogue;

    DEVICE u32 m() const { return rows.divisor; }
    DEVICE u32 n() const { return columns.divisor; }
};

// The order of tiles: down a group of a few rows of tiles, then the next column of them, so that blocks that run at one time share
// what they read in the L2 cache.
struct Tiles {
    Divisor all;    // tiles of a matrix
    Divisor group;  // tiles of a group
    Divisor height; // rows of tiles of a group
    Divisor rest;   // those of the last one
    u32 down;       // rows of tiles
};

template <class A, class B> struct Product {
    u32 k;
    u32 depth; // of k that a block sums
    u32 first; // matrix
    Divisor parts;
    Tiles tiles;
    u32 share; // few.h: how many threads share sums, as a logarithm
    A a;
    B b;
    Output out;
};

// A block's part of a product.
struct Task {
    u32 row, column;  // tile
    u32 from, to;     // of k
    u32 part, matrix; // which
    i64 at[4];        // where the matrices begin: y, a, b, bias

    template <class P> DEVICE explicit Task(const P &p, u32 i = block_x()) {
        const u32 rest = p.tiles.all.quotient(i), tile = i - rest * p.tiles.all.divisor;
        const u32 z = p.parts.quotient(rest);
        part = rest - z * p.parts.divisor;
        matrix = p.first + z;
        from = part * p.depth;
        to = p.k - from < p.depth ? p.k : from + p.depth;
        const u32 group = p.tiles.group.quotient(tile), inside = tile - group * p.tiles.group.divisor;
        const Divisor &height = (group + 1) * p.tiles.height.divisor > p.tiles.down ? p.tiles.rest : p.tiles.height;
        column = height.quotient(inside);
        row = group * p.tiles.height.divisor + inside - column * height.divisor;
        p.out.batch.offsets(matrix, at);
    }

    // Where a block's row of partial sums begins.
    template <class P> DEVICE i64 partial_row(const P &p, u32 i) const {
        return ((i64(matrix) * p.parts.divisor + part) * p.out.m() + i) * p.out.n();
    }
};

// Operands of matrix products: where the element of a row (or column of the result) and a k lies, for plain matrices, for tensors
// of any strides, and for the windows of a convolution, which are never written out (implicit GEMM).
#pragma once

#include "../walk.h"

// A number as up to four indices, the first of which runs fastest, and where they lead: `Axis` of src/backend/gemm/product.rs.
struct Axis {
    u32 rank;           // 1 to 4
    Divisor extents[3]; // of all indices but the last
    i64 strides[4];     // 0 from `rank` on

    DEVICE i64 offset(u32 i) const {
        i64 at = 0;
        u32 d = 0;
        ROLLED for (; d + 1 < rank; d++) {
            const u32 outer = extents[d].quotient(i);
            at += i64(i - outer * extents[d].divisor) * strides[d];
            i = outer;
        }
        return at + i64(i) * strides[d];
    }

    // The indices one by one, and where they lead.
    DEVICE i64 split(u32 i, u32 (&index)[4]) const {
        i64 at = 0;
        UNROLL for (int d = 0; d < 3; d++) {
            const u32 outer = extents[d].quotient(i);
            index[d] = i - outer * extents[d].divisor;
            at += i64(index[d]) * strides[d];
            i = outer;
        }
        index[3] = i;
        return at + i64(i) * strides[3];
    }
};

// Element (i, k) lies at row(i) + column(k).
struct Strided {
    Axis row, column;
    u32 vector; // whether runs of 16 bytes, along k or along the rows as the kernel takes them, are whole and aligned
    u32 by_k;   // bytes.h and small.h: whether they lie along k

    struct Place {
        i64 offset;
    };

    // Whether a kernel has no code for elements: runs are whole and aligned always.
    static constexpr bool RUNS_ONLY = false;

    DEVICE Place row_at(u32 i) const { return {row.offset(i)}; }
    DEVICE Place column_at(u32 k) const { return {column.offset(k)}; }
    DEVICE bool meet(const Place &, const Place &) const { return true; }
};

// As `Strided`, of whole and aligned runs always.
struct Runs : Strided {
    static constexpr bool RUNS_ONLY = true;
};

// As `Strided`, and the element is 0 unless each of three coordinates, to which row and column contribute, lies in the image:
// coordinate s is row_steps[s] · (index s of the row) + column_steps[s] · (index s of the column) + shifts[s], where the indices of
// coordinates begin with index ROW of the row and COLUMN of the column. The fourth index is no coordinate: images if it is the last,
// channels that lie side by side if it is the first.
// Runs of channels are whole and aligned always.
template <int ROW, int COLUMN> struct Windowed {
    static constexpr bool RUNS_ONLY = ROW != COLUMN;

    Axis row, column; // of rank 4
    u32 vector;
    i32 row_steps[3], column_steps[3], shifts[3];
    u32 sizes[3];
    u32 unused;

    struct Place {
        i64 offset;
        i32 at[3];
    };

    DEVICE Place row_at(u32 i) const { return place<ROW>(row, i, row_steps, shifts); }
    DEVICE Place column_at(u32 k) const {
        const i32 none[3] = {0, 0, 0};
        return place<COLUMN>(column, k, column_steps, none);
    }
    DEVICE bool meet(const Place &r, const Place &c) const {
        bool inside = true;
        UNROLL for (int s = 0; s < 3; s++) inside = inside && u32(r.at[s] + c.at[s]) < sizes[s];
        return inside;
    }

  private:
    template <int FIRST> DEVICE static Place place(const Axis &axis, u32 i, const i32 (&steps)[3], const i32 (&shifts)[3]) {
        u32 index[4];
        Place p;
        p.offset = axis.split(i, index);
        UNROLL for (int s = 0; s < 3; s++) p.at[s] = i32(index[FIRST + s]) * steps[s] + shifts[s];
        return p;
    }
};

// Windows of images in planes, of images with their channels last, and these with channels and taps along the rows.
using Gathered = Windowed<0, 0>;
using GatheredLast = Windowed<0, 1>;
using GatheredTaps = Windowed<1, 0>;

// Which elements of a tile of ROWS x DEPTH a thread brings to shared memory: CHUNKS runs of 16 bytes, along k if BY_K, else along
// the rows. Neighbouring threads take neighbouring runs.
template <class T, int ROWS, int DEPTH, int THREADS, bool BY_K> struct Share {
    static constexpr int V = 16 / sizeof(T);
    static constexpr int CHUNKS = ROWS * DEPTH / (V * THREADS);
    static constexpr int RUNS = (BY_K ? DEPTH : ROWS) / V;
    static constexpr int STEP = THREADS / RUNS;
    static_assert(THREADS % RUNS == 0 && CHUNKS * V * THREADS == ROWS * DEPTH, "threads share a tile evenly");

    DEVICE static u32 row(int chunk) { return BY_K ? thread_x() / RUNS + chunk * STEP : thread_x() % RUNS * V; }
    DEVICE static u32 k(int chunk) { return BY_K ? thread_x() % RUNS * V : thread_x() / RUNS + chunk * STEP; }
};

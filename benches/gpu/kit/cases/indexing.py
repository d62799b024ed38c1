"""Indexing and sorting."""
import torch
import torch.nn.functional as F


def add_to(t):
    add, n, rnd, below = t.add, t.size, t.random, t.below
    rows, table, lines, width = n(8192, 16), n(100_000, 64), n(1 << 18, 64), n(256, 16)
    add("index", "embedding f32", "embedding", lambda: [rnd(table, width), below(table, lines)], lambda x, i: F.embedding(i, x),
        bytes=2 * 4 * lines * width)
    add("index", "gradient of embedding f32", "embedding_backward", lambda: [rnd(lines, width), below(table, lines)],
        lambda g, i: torch.ops.aten.embedding_dense_backward(g, i, table, -1, False), [table], bytes=4 * (lines + table) * width)
    add("index", "gather f32", "gather", lambda: [rnd(rows, rows), below(rows, rows, rows)], lambda x, i: x.gather(1, i), [1],
        bytes=16 * rows * rows)
    add("index", "scatter_add f32", "scatter_add", lambda: [rnd(rows, rows), below(rows, rows, rows), rnd(rows, rows)],
        lambda x, i, s: x.scatter_add(1, i, s), [1], bytes=20 * rows * rows, tolerance=1e-3)
    # A tenth of the elements.
    few = lambda: [torch.where(rnd(rows // 2, rows // 2) > 1.28, 1.0, 0.0)]
    add("index", "nonzero f32", "nonzero", few, torch.nonzero, bytes=6 * rows * rows // 4)
    for many, long in [(4096, 8192), (65536, 256), (4, 1 << 22)]:
        l, w = (min(many, 4), min(long, 3000)) if t.tiny else (many, long)
        make = lambda l=l, w=w: [rnd(l, w)]
        add("sort", f"sort {many}x{long} f32", "sort", make, lambda x: x.sort(stable=True, dim=1)[0], [1], bytes=12 * l * w)
        if many > 4:
            add("sort", f"topk 32 of {many}x{long} f32", "topk", make, lambda x: x.topk(32, 1)[0], [1, 32], bytes=4 * l * w)

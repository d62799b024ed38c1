"""What memory bounds: elementwise ops, copies, reductions, running results. Bytes are those that must be read and written."""
import torch
import torch.nn.functional as F

from .base import BF16, F32, SHORT


def add_to(t):
    rows = t.size(8192, 16)
    for dtype in [F32, BF16]:
        one = lambda dtype=dtype: [t.random(rows, rows, dtype=dtype)]
        two = lambda dtype=dtype: [t.random(rows, rows, dtype=dtype) for _ in range(2)]
        size, name = rows * rows * torch.empty((), dtype=dtype).element_size(), SHORT[dtype]
        add = lambda family, what, *args, name=name, **kwargs: t.add(family, f"{what} {name}", *args, **kwargs)
        for op, theirs in [("relu", torch.relu), ("gelu", F.gelu), ("exp", torch.exp), ("tanh", torch.tanh), ("copy", torch.clone)]:
            add("elementwise", op, op, one, theirs, bytes=2 * size)
        add("elementwise", "transpose", "transpose", one, lambda x: x.t().contiguous(), bytes=2 * size)
        add("elementwise", "add", "add", two, torch.add, bytes=3 * size)
        add("elementwise", "gradient of gelu", "gelu_backward", two, torch.ops.aten.gelu_backward, bytes=3 * size)
        add("elementwise", "clamp", "clamp", one, lambda x: x.clamp(-0.5, 0.5), bytes=2 * size)
        add("elementwise", "gradient of clamp", "clamp_backward", two, lambda g, x: torch.ops.aten.hardtanh_backward(g, x, -0.5, 0.5),
            bytes=3 * size)
        bias = lambda dtype=dtype: [t.random(rows, rows, dtype=dtype), t.random(rows, dtype=dtype)]
        add("elementwise", "add a row", "add", bias, torch.add, bytes=2 * size)
        add("elementwise", "cat", "cat", two, lambda a, b: torch.cat([a, b], 1), [1], bytes=4 * size)
        where = lambda dtype=dtype: [t.random(rows, rows) > 0, *(t.random(rows, rows, dtype=dtype) for _ in range(2))]
        add("elementwise", "where", "where", where, torch.where, bytes=3 * size + rows * rows)
        add("reduce", "sum all", "sum_all", one, torch.sum, bytes=size)
        for dim in [0, 1]:
            add("reduce", f"sum dim {dim}", "sum", one, lambda x, d=dim: x.sum(d), [dim], bytes=size)
            add("reduce", f"amax dim {dim}", "amax", one, lambda x, d=dim: x.amax(d), [dim], bytes=size)
        add("reduce", "argmax", "argmax", one, lambda x: x.argmax(1), [1], bytes=size, results=0)  # ties
        add("reduce", "variance and mean", "var_mean", one, lambda x: torch.var_mean(x, 1), [1], bytes=size, results=2)
        for dim in [0, 1]:
            add("scan", f"cumsum dim {dim}", "cumsum", one, lambda x, d=dim: x.cumsum(d), [dim], bytes=2 * size,
                tolerance=1e-3 if dtype == F32 else 0.1)
        add("scan", "cummax", "cummax", one, lambda x: x.cummax(1), [1], bytes=2 * size + 8 * rows * rows)
        add("scan", "logcumsumexp", "logcumsumexp", one, lambda x: x.logcumsumexp(1), [1], bytes=2 * size)
    add = t.add
    add("elementwise", "f32 to bf16", "to_bf16", lambda: [t.random(rows, rows)], lambda x: x.to(BF16), bytes=6 * rows * rows)
    long = t.size(1 << 26, 1 << 14)
    add("scan", "cumsum of one line f32", "cumsum", lambda: [t.random(long)], lambda x: x.cumsum(0), [0], bytes=8 * long, tolerance=1e-2)

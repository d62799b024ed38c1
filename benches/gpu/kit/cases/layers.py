"""Softmax, losses, norms and pooling, forwards and backwards, each in one call of PyTorch's own kernels."""
import torch
import torch.nn.functional as F

from .base import BF16, F32, SHORT


def add_to(t):
    for dtype in [F32, BF16]:
        rows(t, dtype)
        planes(t, dtype)
        pools(t, dtype)


def loss(x, target):
    # Without the graph: what autograd computes, by its own kernels.
    logp = x.log_softmax(1)
    loss, total = torch.ops.aten.nll_loss_forward(logp, target, None, 1, -100)
    grad = torch.ops.aten.nll_loss_backward(torch.ones_like(loss), logp, target, None, 1, -100, total)
    return loss, torch.ops.aten._log_softmax_backward_data(grad, logp, 1, x.dtype)


def rows(t, dtype):
    """Softmax, cross-entropy, layer and RMS norm: of lines."""
    e, name = torch.empty((), dtype=dtype).element_size(), SHORT[dtype]
    for columns in [1024, 8192, 65536]:
        lines, c = t.size(1 << 26, 1 << 12) // columns if not t.tiny else 8, t.size(columns, 32)
        make = lambda l=lines, c=c: [t.random(l, c, dtype=dtype)]
        what, moved = f"{lines}x{columns} {name}", 2 * lines * c * e
        t.add("softmax", f"softmax {what}", "softmax", make, lambda x: x.softmax(1), [1], bytes=moved)
        affine = lambda l=lines, c=c: [t.random(l, c, dtype=dtype), t.random(c, dtype=dtype), t.random(c, dtype=dtype)]
        t.add("norm", f"layer norm {what}", "layer_norm", affine, lambda x, w, b: F.layer_norm(x, w.shape, w, b), bytes=moved)
        if columns == 65536:
            continue
        def given(l=lines, c=c):
            y = t.random(l, c, dtype=dtype).softmax(1)
            return [t.random(l, c, dtype=dtype), y]
        t.add("softmax", f"gradient of softmax {what}", "softmax_backward", given,
              lambda g, y: torch._softmax_backward_data(g, y, 1, y.dtype), [1], bytes=3 * moved // 2)
        scale = lambda l=lines, c=c: [t.random(l, c, dtype=dtype), t.random(c, dtype=dtype)]
        t.add("norm", f"RMS norm {what}", "rms_norm", scale, lambda x, w: F.rms_norm(x, w.shape, w, 1e-5), bytes=moved)
        def root(l=lines, c=c):
            x, w = t.random(l, c, dtype=dtype), t.random(c, dtype=dtype)
            return [t.random(l, c, dtype=dtype), x, (x.float().square().mean(1, keepdim=True) + 1e-5).rsqrt(), w]
        t.add("norm", f"gradients of RMS norm {what}", "rms_norm_backward", root, rms_norm_backward, bytes=3 * moved // 2, results=2,
              tolerance=2e-3 if dtype == F32 else None)
        def stats(l=lines, c=c):
            x, w, b = t.random(l, c, dtype=dtype), t.random(c, dtype=dtype), t.random(c, dtype=dtype)
            _, mean, rstd = torch.native_layer_norm(x, [c], w, b, 1e-5)
            return [t.random(l, c, dtype=dtype), x, mean.float(), rstd.float(), w, b]
        t.add("norm", f"gradients of layer norm {what}", "layer_norm_backward", stats,
              lambda g, x, m, r, w, b: torch.ops.aten.native_layer_norm_backward(g, x, list(w.shape), m.to(stats_dtype(x)), r.to(stats_dtype(x)), w, b,
                                                                                [True] * 3),
              bytes=3 * moved // 2, results=3, tolerance=2e-3 if dtype == F32 else None)
    side = t.size(8192, 16)
    logits = lambda: [t.random(side, side, dtype=dtype), t.below(side, side)]
    t.add("softmax", f"cross entropy and gradient {name}", "cross_entropy", logits, loss, bytes=2 * side * side * e, results=2)


def rms_norm_backward(g, x, r, w):
    """Of x and the weight, whose sums grow with the lines."""
    if x.is_cuda:
        return torch.ops.aten._fused_rms_norm_backward(g, x, list(w.shape), r, w, [True, True])
    with torch.enable_grad():
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        return torch.autograd.grad(F.rms_norm(x, w.shape, w, 1e-5), [x, w], g)


def stats_dtype(x):
    """Of the mean and rstd that PyTorch's gradients take: on the CPU, in a trial, that of the input."""
    return F32 if x.is_cuda else x.dtype


def planes(t, dtype):
    """Batch and group norm: of channels."""
    dims = [4, 8, 6, 6] if t.tiny else [32, 64, 112, 112]
    c, size, name = dims[1], torch.Size(dims).numel() * torch.empty((), dtype=dtype).element_size(), SHORT[dtype]
    groups = min(c, 32)
    # Statistics and parameters are f32 in both, of 16-bit images too.
    affine = lambda wide: [t.random(c, dtype=F32 if wide else dtype) for _ in range(2)]
    if dtype == F32:
        make = lambda: [t.random(*dims, dtype=dtype), *affine(True)]
        for order in ["", ", channels last"]:
            t.add("norm", f"batch norm in training {name}{order}", "batch_norm", make,
                  lambda x, w, b: torch.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5)[0], bytes=3 * size, last=order != "")
        def batch():
            x, w = t.random(*dims, dtype=dtype), affine(True)[0]
            _, mean, rstd = torch.native_batch_norm(x, w, None, None, None, True, 0.1, 1e-5)
            return [t.random(*dims, dtype=dtype), x, mean, rstd, w]
        t.add("norm", f"gradients of batch norm {name}", "batch_norm_backward", batch,
              lambda g, x, m, r, w: torch.ops.aten.native_batch_norm_backward(g, x, w, None, None, m, r, True, 1e-5, [True] * 3),
              bytes=5 * size, results=3, tolerance=2e-3)
        def grouped():
            x, w = t.random(*dims, dtype=dtype), affine(True)[0]
            _, mean, rstd = torch.native_group_norm(x, w, None, dims[0], c, dims[2] * dims[3], groups, 1e-5)
            return [t.random(*dims, dtype=dtype), x, mean, rstd, w]
        t.add("norm", f"gradients of group norm {name}", "group_norm_backward", grouped,
              lambda g, x, m, r, w: torch.ops.aten.native_group_norm_backward(g, x, m, r, w, dims[0], c, dims[2] * dims[3], groups, [True] * 3),
              bytes=5 * size, results=3, tolerance=2e-3)
    make = lambda: [t.random(*dims, dtype=dtype), *affine(False)]
    t.add("norm", f"group norm {name}", "group_norm", make, lambda x, w, b: F.group_norm(x, groups, w, b), [groups], bytes=2 * size)


def pools(t, dtype):
    dims, name = [2, 4, 8, 8] if t.tiny else [32, 64, 112, 112], SHORT[dtype]
    size = torch.Size(dims).numel() * torch.empty((), dtype=dtype).element_size()
    image = lambda: [t.random(*dims, dtype=dtype)]
    add = lambda *args, **kwargs: t.add("pool", *args, **{"last": True, **kwargs})
    for order, last in [("", True), (" in planes", False)]:
        add(f"max pool 2x2{order} {name}", "max_pool", image, lambda x: F.max_pool2d(x, 2), [2, 2, 0], bytes=1.25 * size, last=last)
        add(f"average pool 2x2{order} {name}", "avg_pool", image, lambda x: F.avg_pool2d(x, 2), [2, 2, 0], bytes=1.25 * size, last=last)
    add(f"max pool 3x3/2 {name}", "max_pool", image, lambda x: F.max_pool2d(x, 3, 2, 1), [3, 2, 1], bytes=1.25 * size)
    add(f"adaptive average to 7x7 {name}", "adaptive_avg_pool", image, lambda x: F.adaptive_avg_pool2d(x, 7), [7], bytes=size,
        tolerance=1e-3 if dtype == F32 else None)
    out = [*dims[:2], dims[2] // 2, dims[3] // 2]
    given = lambda: [t.random(*out, dtype=dtype), t.random(*dims, dtype=dtype)]
    kept = {}

    def largest(g, x):
        # Where the largest stand was found before, in both.
        if id(x) not in kept:
            kept[id(x)] = (x, F.max_pool2d(x, 3, 2, 1, return_indices=True)[1])
        return torch.ops.aten.max_pool2d_with_indices_backward(g, x, [3, 3], [2, 2], [1, 1], [1, 1], False, kept[id(x)][1])

    add(f"gradient of max pool 3x3/2 {name}", "max_pool_backward", given, largest, [3, 2, 1], bytes=1.25 * size)
    add(f"gradient of average pool 2x2 {name}", "avg_pool_backward", given,
        lambda g, x: torch.ops.aten.avg_pool2d_backward(g, x, [2, 2], [2, 2], [0, 0], False, True, None), [2, 2, 0], bytes=1.25 * size)

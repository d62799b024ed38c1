"""Optimizer steps, random numbers, recurrent layers."""
import contextlib

import torch

from .base import BF16, F32, SHORT


def add_to(t):
    optimizers(t)
    count = t.size(1 << 26, 1 << 10)
    make = lambda: [t.random(count)]
    t.add("random", "normal numbers f32", "randn", make, torch.randn_like, bytes=4 * count, results=0)
    t.add("random", "dropout f32", "dropout", make, lambda x: torch.native_dropout(x, 0.5, True), bytes=9 * count, results=0)
    kept = lambda: [t.random(count), t.random(count) > 0]
    t.add("random", "gradient of dropout f32", "dropout_backward", kept, lambda g, k: torch.ops.aten.native_dropout_backward(g, k, 2.0), bytes=9 * count)
    for dtype in [F32, BF16]:
        for steps, batch, hidden in [(512, 16, 768), (256, 32, 512), (128, 64, 1024)]:
            recurrent(t, "LSTM", steps, batch, hidden, dtype)
        recurrent(t, "GRU", 256, 32, 512, dtype)


def optimizers(t):
    """One large tensor, and many of the sizes of a network's: PyTorch's fused steps."""
    whole, part = t.size(1 << 26, 1 << 10), t.size(1 << 18, 1 << 8)
    states = {}

    def state(params, count):
        key = id(params[0])
        if key not in states:
            states[key] = (params, *([torch.zeros_like(p) for p in params] for _ in range(count)),
                           [torch.tensor(9.0, device=p.device) for p in params])
        return states[key]

    def adamw(*x):
        params, means, squares, steps = state(x[::2], 2)
        torch._fused_adamw_(list(params), list(x[1::2]), means, squares, [], steps, lr=1e-3, beta1=0.9, beta2=0.999, weight_decay=0.01,
                            eps=1e-8, amsgrad=False, maximize=False)

    def sgd(*x):
        params, momenta, _ = state(x[::2], 1)
        torch._fused_sgd_(list(params), list(x[1::2]), momenta, weight_decay=0.0, momentum=0.9, lr=1e-3, dampening=0.0, nesterov=False,
                          maximize=False, is_first_step=False)

    for what, sizes in [("one tensor", [whole]), ("200 tensors", [part + 64 * (i % 7) for i in range(5 if t.tiny else 200)])]:
        make = lambda sizes=sizes: [t.random(n) for n in sizes for _ in range(2)]
        t.add("optimizer", f"AdamW f32, {what}", "adam", make, adamw, bytes=28 * sum(sizes), results=0)
        t.add("optimizer", f"SGD f32, {what}", "sgd", make, sgd, bytes=20 * sum(sizes), results=0)


def recurrent(t, kind, steps, batch, hidden, dtype):
    s, b, h = (5, 3, 16) if t.tiny else (steps, batch, hidden)
    gates, scale = (4, h**-0.5) if kind == "LSTM" else (3, h**-0.5)
    rnd = lambda *shape, scale=1.0: t.random(*shape, dtype=dtype, scale=scale)

    def make():
        weights = [rnd(gates * h, h, scale=scale), rnd(gates * h, h, scale=scale), rnd(gates * h, scale=scale), rnd(gates * h, scale=scale)]
        if weights[0].is_cuda:
            # One after the other, as cuDNN wants them, so that PyTorch does not copy them for each call.
            with contextlib.suppress(RuntimeError):
                mode = torch.backends.cudnn.rnn.get_cudnn_mode(kind)
                torch._cudnn_rnn_flatten_weight(weights, 4, h, mode, h, 0, 1, False, False)
        return [rnd(s, b, h), rnd(b, h), rnd(b, h), *weights]

    def run(training, x, h0, c0, *w):
        if kind == "LSTM":
            return torch.lstm(x, (h0[None], c0[None]), list(w), True, 1, 0.0, training, False, False)[0]
        return torch.gru(x, h0[None], list(w), True, 1, 0.0, training, False, False)[0]

    def both(x, h0, c0, *w):
        with torch.enable_grad():
            leaves = [v.detach().requires_grad_() for v in (x, *w)]
            y = run(True, leaves[0], h0, c0, *leaves[1:])
            grads = torch.autograd.grad(y, leaves, torch.ones_like(y))
        return y.detach(), grads[0], grads[1], grads[2]

    flops, what, half = 4 * gates * s * b * h * h, f"t{steps} b{batch} h{hidden} {SHORT[dtype]}", dtype == BF16
    peak = "6xbf16" if dtype == F32 else "bf16"
    t.add("rnn", f"{kind} {what}", kind.lower(), make, lambda *x: run(False, *x), flops=flops, peak=peak, tolerance=2e-2 if half else 1e-3)
    t.add("rnn", f"{kind} both ways {what}", f"{kind.lower()}_both", make, both, flops=3 * flops, peak=peak, results=4,
          tolerance=5e-2 if half else 1e-3)

"""What is measured: ops on random tensors, with PyTorch's form of each. `size` shrinks everything for a trial without a GPU."""
import torch
import torch.nn.functional as F

F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16


class Case:
    def __init__(self, family, name, op, inputs, theirs, numbers=(), flops=0, bytes=None, tolerance=None, results=1):
        self.family, self.name, self.op, self.inputs, self.theirs = family, name, op, inputs, theirs
        self.numbers, self.flops, self.bytes, self.tolerance, self.results = numbers, flops, bytes, tolerance, results


def random(shape, dtype, device, scale=1.0):
    return (torch.randn(shape, device=device) * scale).to(dtype)


def short(dtype):
    return {F32: "f32", BF16: "bf16", F16: "f16", torch.float64: "f64"}[dtype]


def cases(device, tiny):
    rnd = lambda *shape, dtype=F32, scale=1.0: random(shape, dtype, device, scale)
    ints = lambda *shape, below: torch.randint(0, below, shape, device=device)
    n = lambda size, least=4: max(size // 64, least) if tiny else size
    found = []
    add = lambda *args, **kwargs: found.append(Case(*args, **kwargs))

    # --- products: NN, and NT as a linear layer has it ---
    for dtype in [BF16, F16, F32]:
        for size in [1024, 2048, 4096, 8192, 16384] if dtype == BF16 else [1024, 2048, 4096, 8192]:
            m = n(size, 24)
            make = lambda m=m, dtype=dtype: [rnd(m, m, dtype=dtype), rnd(m, m, dtype=dtype)]
            add("gemm", f"{size}^3 {short(dtype)}", "matmul", make, torch.matmul, flops=2 * m**3)
    for batch, size in [(8, 1024), (16, 512), (64, 128)]:
        m = n(size, 16)
        make = lambda b=batch, m=m: [rnd(b, m, m, dtype=BF16), rnd(b, m, m, dtype=BF16)]
        add("gemm", f"{batch} x {size}^3 bf16", "matmul", make, torch.matmul, flops=2 * batch * m**3)
    for m, k, o in [(16, 4096, 4096), (64, 4096, 11008), (2048, 4096, 11008)]:
        m2, k2, o2 = n(m, 8), n(k, 16), n(o, 24)
        make = lambda m=m2, k=k2, o=o2: [rnd(m, k, dtype=BF16), rnd(o, k, dtype=BF16), rnd(o, dtype=BF16)]
        add("gemm", f"linear {m}x{k}->{o} bf16", "linear", make, F.linear, flops=2 * m2 * k2 * o2)

    # --- convolutions, with channels last ---
    last = torch.channels_last
    shapes = [(32, 64, 56, 64, 3, 1, 1), (32, 128, 28, 128, 3, 1, 1), (32, 256, 14, 256, 3, 1, 1), (32, 512, 7, 512, 3, 1, 1),
              (32, 64, 56, 256, 1, 1, 1), (32, 256, 56, 128, 1, 2, 1), (32, 3, 224, 64, 7, 2, 1), (32, 128, 56, 128, 3, 1, 128),
              (32, 256, 28, 256, 3, 1, 32)]
    for dtype in [BF16, F32]:
        for b, c, s, k, r, stride, groups in shapes:
            what = f"{r}x{r}/{stride} {c}->{k} {s}x{s} x{b}" + (f" groups {groups}" if groups > 1 else "") + f" {short(dtype)}"
            if tiny:
                groups = 8 if groups == c else min(groups, 2)
                b, s, c, k = 2, max(s // 8, r + 1), 8 if groups == 8 else min(c, 16), 8 if groups == 8 else 16
            pad, q = r // 2, (s + 2 * (r // 2) - r) // stride + 1
            flops = 2 * b * k * q * q * (c // groups) * r * r
            x = lambda b=b, c=c, s=s, dtype=dtype: rnd(b, c, s, s, dtype=dtype)
            w = lambda k=k, c=c, g=groups, r=r, dtype=dtype: rnd(k, c // g, r, r, dtype=dtype, scale=(c // g * r * r) ** -0.5)
            y = lambda b=b, k=k, q=q, dtype=dtype: rnd(b, k, q, q, dtype=dtype)
            conv = [stride, pad, 1, groups]
            kw = dict(stride=stride, padding=pad, groups=groups)
            add("conv", f"forward {what}", "conv2d", lambda x=x, w=w: [x(), w()],
                lambda x, w, kw=kw: F.conv2d(x, w, **kw), conv, flops)
            grad = lambda g, x, w, mask, conv=conv: torch.ops.aten.convolution_backward(
                g, x, w, None, [conv[0]] * 2, [conv[1]] * 2, [1, 1], False, [0, 0], conv[3], mask)
            xs, ws = [b, c, s, s], [k, c // groups, r, r]
            add("conv", f"grad input {what}", "conv2d_grad_input", lambda y=y, w=w: [y(), w()],
                lambda g, w, grad=grad, xs=xs: grad(g, g.new_empty(xs).contiguous(memory_format=last), w, [True, False, False])[0],
                conv + xs, flops)
            add("conv", f"grad weight {what}", "conv2d_grad_weight", lambda y=y, x=x: [y(), x()],
                lambda g, x, grad=grad, ws=ws: grad(g, x, g.new_empty(ws).contiguous(memory_format=last), [False, True, False])[1],
                conv + ws, flops)

    # --- bandwidth: bytes are those that must be read and written ---
    rows = n(8192, 16)
    for dtype in [F32, BF16]:
        e = torch.empty((), dtype=dtype).element_size()
        one = lambda dtype=dtype: [rnd(rows, rows, dtype=dtype)]
        two = lambda dtype=dtype: [rnd(rows, rows, dtype=dtype), rnd(rows, rows, dtype=dtype)]
        size, t = rows * rows * e, short(dtype)
        for name, op in [("relu", torch.relu), ("gelu", F.gelu), ("exp", torch.exp), ("tanh", torch.tanh), ("copy", torch.clone)]:
            add("elementwise", f"{name} {t}", name, one, op, bytes=2 * size)
        add("elementwise", f"transpose {t}", "transpose", one, lambda x: x.t().contiguous(), bytes=2 * size)
        add("elementwise", f"add {t}", "add", two, torch.add, bytes=3 * size)
        bias = lambda dtype=dtype: [rnd(rows, rows, dtype=dtype), rnd(rows, dtype=dtype)]
        add("elementwise", f"add a row {t}", "add", bias, torch.add, bytes=2 * size)
        add("elementwise", f"cat {t}", "cat", two, lambda a, b: torch.cat([a, b], 1), [1], bytes=4 * size)
        add("reduce", f"sum all {t}", "sum_all", one, torch.sum, bytes=size)
        for dim in [0, 1]:
            add("reduce", f"sum dim {dim} {t}", "sum", one, lambda x, d=dim: x.sum(d), [dim], bytes=size)
            add("reduce", f"amax dim {dim} {t}", "amax", one, lambda x, d=dim: x.amax(d), [dim], bytes=size)
        add("reduce", f"argmax {t}", "argmax", one, lambda x: x.argmax(1), [1], bytes=size, results=0)  # ties
        add("reduce", f"cumsum {t}", "cumsum", one, lambda x: x.cumsum(1), [1], bytes=2 * size,
            tolerance=1e-3 if dtype == F32 else 0.1)
        for columns in [1024, 8192, 65536]:
            lines, c = n(1 << 26, 1 << 12) // columns if not tiny else 8, n(columns, 32)
            make = lambda l=lines, c=c, dtype=dtype: [rnd(l, c, dtype=dtype)]
            moved = 2 * lines * c * e
            add("softmax", f"softmax {lines}x{columns} {t}", "softmax", make, lambda x: x.softmax(1), [1], bytes=moved)
            affine = lambda l=lines, c=c, dtype=dtype: [rnd(l, c, dtype=dtype), rnd(c, dtype=dtype), rnd(c, dtype=dtype)]
            add("norm", f"layer norm {lines}x{columns} {t}", "layer_norm", affine, lambda x, w, b: F.layer_norm(x, w.shape, w, b), bytes=moved)
        logits = lambda dtype=dtype: [rnd(rows, rows, dtype=dtype), ints(rows, below=rows)]
        def loss(x, target):
            # Without the graph: what autograd computes, by its own kernels.
            logp = x.log_softmax(1)
            loss, total = torch.ops.aten.nll_loss_forward(logp, target, None, 1, -100)
            grad = torch.ops.aten.nll_loss_backward(torch.ones_like(loss), logp, target, None, 1, -100, total)
            return loss, torch.ops.aten._log_softmax_backward_data(grad, logp, 1, x.dtype)
        add("softmax", f"cross entropy and gradient {t}", "cross_entropy", logits, loss, bytes=2 * size, results=2)
        planes = (lambda dtype=dtype: [rnd(4, 8, 6, 6, dtype=dtype), rnd(8), rnd(8)]) if tiny else (
            lambda dtype=dtype: [rnd(32, 64, 112, 112, dtype=dtype), rnd(64), rnd(64)])
        if dtype == F32:
            add("norm", "batch norm in training f32", "batch_norm", planes,
                lambda x, w, b: torch.native_batch_norm(x, w, b, None, None, True, 0.1, 1e-5)[0],
                bytes=3 * (4 * 8 * 36 if tiny else 32 * 64 * 112 * 112) * e)
        pooled = (lambda dtype=dtype: [rnd(2, 3, 8, 8, dtype=dtype)]) if tiny else (lambda dtype=dtype: [rnd(32, 64, 112, 112, dtype=dtype)])
        moved = (2 * 3 * 64 if tiny else 32 * 64 * 112 * 112) * e * 1.25
        add("pool", f"max pool 2x2 {t}", "max_pool2d", pooled, lambda x: F.max_pool2d(x, 2), [2, 2, 0], bytes=moved)
        add("pool", f"average pool 2x2 {t}", "avg_pool2d", pooled, lambda x: F.avg_pool2d(x, 2), [2, 2, 0], bytes=moved)

    # --- indexing and sorting ---
    table, lines, width = n(100_000, 64), n(1 << 18, 64), n(256, 16)
    add("index", "embedding f32", "embedding", lambda: [rnd(table, width), ints(lines, below=table)],
        lambda x, i: F.embedding(i, x), bytes=2 * 4 * lines * width)
    add("index", "gather f32", "gather", lambda: [rnd(rows, rows), ints(rows, rows, below=rows)], lambda x, i: x.gather(1, i), [1],
        bytes=16 * rows * rows)
    add("index", "scatter_add f32", "scatter_add", lambda: [rnd(rows, rows), ints(rows, rows, below=rows), rnd(rows, rows)],
        lambda x, i, s: x.scatter_add(1, i, s), [1], bytes=20 * rows * rows, tolerance=1e-3)
    add("sort", "sort f32", "sort", lambda: [rnd(n(4096, 8), n(8192, 64))], lambda x: x.sort(stable=True, dim=1)[0], [1], bytes=12 * n(4096, 8) * n(8192, 64))
    add("sort", "topk 32 f32", "topk", lambda: [rnd(n(4096, 8), n(8192, 64))], lambda x: x.topk(32, 1)[0], [1, 32], bytes=4 * n(4096, 8) * n(8192, 64))

    # --- optimizer: one tensor; PyTorch's fused one ---
    count = n(1 << 26, 1 << 10)
    def adamw(p, g, state={}):
        kept = state.get(id(p))
        if kept is None:
            kept = state[id(p)] = (torch.zeros_like(p), torch.zeros_like(p), torch.tensor(9.0, device=p.device))
        torch._fused_adamw_([p], [g], [kept[0]], [kept[1]], [], [kept[2]], lr=1e-3, beta1=0.9, beta2=0.999, weight_decay=0.01,
                            eps=1e-8, amsgrad=False, maximize=False)
    add("optimizer", "AdamW f32", "adam", lambda: [rnd(count), rnd(count)], adamw, bytes=28 * count, results=0)

    # --- recurrent layers ---
    for dtype in [F32, BF16]:
        for t, b, h in [(512, 16, 768), (256, 32, 512), (128, 64, 1024)]:
            t2, b2, h2 = (5, 3, 16) if tiny else (t, b, h)
            scale = h2**-0.5
            make = lambda t=t2, b=b2, h=h2, s=scale, dtype=dtype: [
                rnd(t, b, h, dtype=dtype), rnd(b, h, dtype=dtype), rnd(b, h, dtype=dtype), rnd(4 * h, h, dtype=dtype, scale=s),
                rnd(4 * h, h, dtype=dtype, scale=s), rnd(4 * h, dtype=dtype, scale=s), rnd(4 * h, dtype=dtype, scale=s)]
            flops = 16 * t2 * b2 * h2 * h2
            forward = lambda x, h0, c0, *w: torch.lstm(x, (h0[None], c0[None]), list(w), True, 1, 0.0, False, False, False)[0]
            add("rnn", f"LSTM t{t} b{b} h{h} {short(dtype)}", "lstm", make, forward, flops=flops, tolerance=2e-2 if dtype == BF16 else 1e-3)
            def both(x, h0, c0, *w):
                with torch.enable_grad():
                    leaves = [v.detach().requires_grad_() for v in (x, *w)]
                    y = torch.lstm(leaves[0], (h0[None], c0[None]), leaves[1:], True, 1, 0.0, True, False, False)[0]
                    grads = torch.autograd.grad(y, leaves, torch.ones_like(y))
                return y.detach(), grads[0], grads[1], grads[2]
            add("rnn", f"LSTM both ways t{t} b{b} h{h} {short(dtype)}", "lstm_both", make, both, flops=3 * flops,
                tolerance=5e-2 if dtype == BF16 else 1e-3, results=4)
    return found

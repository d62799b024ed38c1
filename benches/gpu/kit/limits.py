"""What the machine can do at most, measured by PyTorch in the same run: bytes and operations each second, by name."""
import torch


def measure(span, on_gpu):
    """`span(run)` gives the seconds of one run; on a GPU sizes are such that launches do not count."""
    device = "cuda" if on_gpu else "cpu"
    side, count = (8192, 1 << 28) if on_gpu else (64, 1 << 12)
    least = lambda run: min(span(run) for _ in range(7 if on_gpu else 1))
    found = {}
    x, y = (torch.randn(count, device=device) for _ in range(2))
    found["bytes"] = 8 * count / least(lambda: y.copy_(x))
    del x, y

    def product(name, dtype, n=side, tf32=False):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
            if dtype == torch.int8:
                a, b = (torch.randint(-128, 128, (n, n), device=device, dtype=dtype) for _ in range(2))
            run = (lambda: torch._int_mm(a, b.t())) if dtype == torch.int8 else lambda: a @ b
            found[name] = 2 * n**3 / least(run)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    product("bf16", torch.bfloat16)
    product("f16", torch.float16)
    product("tf32", torch.float32, tf32=True)
    product("f32", torch.float32, min(side, 4096))
    product("f64", torch.float64, min(side, 4096))
    product("i8", torch.int8)
    # As many products of bf16 for one of f32.
    found["6xbf16"] = max(found["bf16"] / 6, found["f32"])
    return found

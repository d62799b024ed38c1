"""Matrix products: of every dtype and mode, with few rows, small ones in batches, of bytes."""
import torch
import torch.nn.functional as F

from .base import BF16, F16, F32, F64, I8, MODES, SHORT


def add_to(t):
    add, n, rnd = t.add, t.size, t.random
    square = lambda m, dtype: lambda: [rnd(m, m, dtype=dtype), rnd(m, m, dtype=dtype)]
    for dtype in [BF16, F16]:
        for size in [1024, 2048, 4096, 8192, 16384] if dtype == BF16 else [4096, 8192]:
            m = n(size, 24)
            add("gemm", f"{size}^3 {SHORT[dtype]}", "matmul", square(m, dtype), torch.matmul, flops=2 * m**3, peak=SHORT[dtype])
    for mode, peak in MODES.items():
        for size in [1024, 4096, 8192]:
            m = n(size, 80)
            add(f"gemm f32 {mode}", f"{size}^3", f"matmul:{mode}", square(m, F32), torch.matmul, flops=2 * m**3, peak=peak,
                tf32=mode == "fast", exact=True, tolerance=5e-3 if mode == "fast" else None)
    for size in [1024, 4096]:
        m = n(size, 24)
        add("gemm f64", f"{size}^3", "matmul", square(m, F64), torch.matmul, flops=2 * m**3, peak="f64", tolerance=1e-6)

    # As a linear layer has it: the weight by rows.
    def linear(family, m, k, o, dtype, mode=None, tf32=False):
        m2, k2, o2 = m if m <= 8 else n(m, 8), n(k, 72), n(o, 24)
        make = lambda: [rnd(m2, k2, dtype=dtype), rnd(o2, k2, dtype=dtype, scale=k2**-0.5), rnd(o2, dtype=dtype)]
        what, op = f"linear {m}x{k}->{o} {SHORT[dtype]}", "linear" + (f":{mode}" if mode else "")
        peak = MODES[mode] if mode else "6xbf16" if dtype == F32 else SHORT[dtype]
        add(family, what, op, make, F.linear, flops=2 * m2 * k2 * o2, peak=peak, tf32=tf32, tolerance=5e-3 if tf32 else None)

    for m, k, o in [(64, 4096, 11008), (2048, 4096, 11008)]:
        linear("gemm", m, k, o, BF16)
    linear("gemm f32 auto", 2048, 4096, 4096, F32, "auto")
    linear("gemm f32 fast", 2048, 4096, 4096, F32, "fast", tf32=True)
    for m, k, o, dtype in [(1, 4096, 11008, BF16), (1, 4096, 4096, F32), (4, 4096, 11008, BF16), (8, 4096, 4096, F32), (16, 4096, 4096, BF16)]:
        linear("few rows", m, k, o, dtype)
    side = n(8192, 40)
    add("few rows", "8192x8192 times a vector f32", "matmul", lambda: [rnd(side, side), rnd(side, 1)], torch.matmul, flops=2 * side**2,
        peak="f32")
    add("few rows", "a vector times 8192x8192 bf16", "matmul", lambda: [rnd(1, side, dtype=BF16), rnd(side, side, dtype=BF16)],
        torch.matmul, flops=2 * side**2, peak="bf16")
    for batch, size, dtype in [(8, 1024, BF16), (64, 128, BF16), (512, 64, BF16), (4096, 32, BF16), (4096, 32, F32), (16384, 16, F32),
                               (4096, 24, F64)]:
        b, m = n(batch, 8), n(size, size if size <= 32 else 16)
        make = lambda b=b, m=m, dtype=dtype: [rnd(b, m, m, dtype=dtype), rnd(b, m, m, dtype=dtype)]
        add("batches", f"{batch} x {size}^3 {SHORT[dtype]}", "matmul", make, torch.matmul, flops=2 * b * m**3,
            peak="f32" if dtype == F32 else SHORT[dtype], tolerance=1e-6 if dtype == F64 else None)
    # Sums of bytes are exact in both, and in float32 but for the last bits of large ones.
    for m, k, o in [(1024, 1024, 1024), (4096, 4096, 4096), (8192, 8192, 8192), (2048, 4096, 11008)]:
        m2, k2, o2 = n(m, 32), n(k, 32), n(o, 32)
        make = lambda m=m2, k=k2, o=o2: [rnd(m, k, dtype=I8), rnd(o, k, dtype=I8)]
        add("int_mm", f"{m}x{k}x{o}", "int_mm", make, lambda a, b: torch._int_mm(a, b.t()), flops=2 * m2 * k2 * o2, peak="i8", tolerance=1e-6)

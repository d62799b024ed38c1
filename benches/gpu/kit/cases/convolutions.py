"""Convolutions and both gradients: images with channels last; sequences and volumes; one channel to a group, and more."""
import torch
import torch.nn.functional as F

from .base import BF16, F32, MODES, SHORT

# Images, channels, sides, results' channels, window, stride, groups.
IMAGES = [(32, 64, [56, 56], 64, 3, 1, 1), (32, 128, [28, 28], 128, 3, 1, 1), (32, 256, [14, 14], 256, 3, 1, 1),
          (32, 512, [7, 7], 512, 3, 1, 1), (32, 64, [56, 56], 256, 1, 1, 1), (32, 256, [56, 56], 128, 1, 2, 1),
          (32, 3, [224, 224], 64, 7, 2, 1)]
DEPTHWISE = [(32, 128, [56, 56], 128, 3, 1, 128), (32, 256, [28, 28], 256, 5, 2, 256)]
GROUPED = [(32, 256, [28, 28], 256, 3, 1, 32), (32, 256, [14, 14], 256, 3, 1, 4)]
SEQUENCES = [(32, 128, [4096], 128, 5, 1, 1)]
VOLUMES = [(4, 32, [16, 28, 28], 64, 3, 1, 1)]


def add_to(t):
    for dtype in [BF16, F32]:
        for family, shapes in [("conv", IMAGES), ("conv depthwise", DEPTHWISE), ("conv grouped", GROUPED), ("conv 1-d", SEQUENCES),
                               ("conv 3-d", VOLUMES)]:
            for shape in shapes:
                one(t, family if dtype == BF16 else f"{family} f32", shape, dtype)
    # Operands rounded to tf32 in both.
    for shape in [IMAGES[1], IMAGES[4], IMAGES[6]]:
        one(t, "conv f32 fast", shape, F32, "fast")


def one(t, family, shape, dtype, mode=None):
    """The convolution, the gradient in its input and that in its weight."""
    b, c, sides, k, r, stride, groups = shape
    what = f"{r}^{len(sides)}/{stride} {c}->{k} {'x'.join(map(str, sides))} x{b}" + (f" groups {groups}" if groups > 1 else "")
    what += f" {SHORT[dtype]}"
    if t.tiny:
        groups = 8 if groups == c else min(groups, 2)
        b, sides, c, k = 2, [max(s // 16, r + 1) for s in sides], 8 if groups == 8 else min(c, 16), 8 if groups == 8 else 16
    dims, pad = len(sides), r // 2
    out = [(s + 2 * pad - r) // stride + 1 for s in sides]
    taps, places = (c // groups) * r**dims, b
    for q in out:
        places *= q
    # One channel to a group is no work for matrix instructions.
    peak = "f32" if groups == c else MODES[mode or "auto"] if dtype == F32 else SHORT[dtype]
    facts = dict(flops=2 * places * k * taps, peak=peak, last=dims > 1, tf32=mode == "fast",
                 tolerance=1e-2 if mode == "fast" else None)
    suffix = f":{mode}" if mode else ""
    xs, ws, ys = [b, c, *sides], [k, c // groups, *[r] * dims], [b, k, *out]
    x = lambda: t.random(*xs, dtype=dtype)
    w = lambda: t.random(*ws, dtype=dtype, scale=taps**-0.5)
    y = lambda: t.random(*ys, dtype=dtype)
    conv = [stride, pad, 1, groups]
    theirs = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
    t.add(family, f"forward {what}", f"conv{suffix}", lambda: [x(), w()],
          lambda x, w: theirs(x, w, stride=stride, padding=pad, groups=groups), conv, exact=dtype == F32, **facts)
    grad = lambda g, x, w, mask: torch.ops.aten.convolution_backward(
        g, x, w, None, [stride] * dims, [pad] * dims, [1] * dims, False, [0] * dims, groups, mask)
    order = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    t.add(family, f"grad input {what}", f"conv_grad_input{suffix}", lambda: [y(), w()],
          lambda g, w: grad(g, torch.empty(xs, dtype=g.dtype, device=g.device, memory_format=order), w, [True, False, False])[0],
          conv + xs, **facts)
    t.add(family, f"grad weight {what}", f"conv_grad_weight{suffix}", lambda: [y(), x()],
          lambda g, x: grad(g, x, torch.empty(ws, dtype=g.dtype, device=g.device, memory_format=order), [False, True, False])[1],
          conv + ws, **facts)

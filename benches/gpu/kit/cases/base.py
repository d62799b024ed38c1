"""A case, and the random tensors that cases are made of."""
import torch

F64, F32, BF16, F16, I8 = torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8
SHORT = {F32: "f32", BF16: "bf16", F16: "f16", F64: "f64", I8: "i8"}


class Case:
    """An op of ours, by name and numbers, on what `inputs` makes, beside `theirs`, a function of the same tensors.

    flops     multiplications and additions that it cannot do without
    peak      at what rate at most: a name of limits.py
    bytes     that must be read and written; those of the inputs and results unless told
    tolerance the largest difference from PyTorch's, relative to a large element
    results   how many are compared; none of what is random or in place
    tf32      PyTorch may round operands to tf32
    exact     both are compared with doubles too
    last      images have their channels last
    """

    def __init__(self, family, name, op, inputs, theirs, numbers=(), flops=0, peak=None, bytes=None, tolerance=None, results=1, tf32=False,
                 exact=False, last=False):
        self.family, self.name, self.op, self.inputs, self.theirs, self.numbers = family, name, op, inputs, theirs, numbers
        self.flops, self.peak, self.bytes, self.tolerance, self.results = flops, peak, bytes, tolerance, results
        self.tf32, self.exact, self.last = tf32, exact, last


class Table:
    def __init__(self, device, tiny):
        self.device, self.tiny, self.cases = device, tiny, []

    def add(self, *args, **kwargs):
        self.cases.append(Case(*args, **kwargs))

    def size(self, full, least=4):
        """An extent, or a small one for a trial."""
        return max(full // 64, least) if self.tiny else full

    def random(self, *shape, dtype=F32, scale=1.0):
        if dtype == I8:
            return torch.randint(-128, 128, shape, device=self.device, dtype=dtype)
        return (torch.randn(shape, device=self.device) * scale).to(dtype)

    def below(self, bound, *shape):
        return torch.randint(0, bound, shape, device=self.device)


# What the tensor cores or the others do at most in each mode of ours.
MODES = {"strict": "f32", "auto": "6xbf16", "fast": "tf32"}

"""Gradus by its C interface (src/ffi.rs), on tensors of PyTorch."""
import ctypes
import os

import torch

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool, torch.int8]


class Gradus:
    def __init__(self, library, device):
        self.lib = ctypes.CDLL(os.path.abspath(library))
        for name in ["open", "lent", "upload", "download", "copy", "count", "free", "case", "model", "run", "result", "synchronize"]:
            getattr(self.lib, "gradus_" + name).restype = ctypes.c_int64
        self.lib.gradus_error.restype = ctypes.c_char_p
        self.lib.gradus_stream.restype = ctypes.c_void_p
        self.device = device
        self.good(self.lib.gradus_open(device.encode()))
        self.on_gpu = device.startswith("cuda")
        self.stream = torch.cuda.ExternalStream(self.lib.gradus_stream()) if self.on_gpu else None

    def good(self, answer):
        if answer <= 0:
            raise RuntimeError(self.lib.gradus_error().decode())
        return answer

    def tensor(self, x):
        """A handle of the tensor: its own memory on a GPU, which must stay there, else a copy."""
        code, rank = ctypes.c_int(DTYPES.index(x.dtype)), ctypes.c_int(x.dim())
        dims = (ctypes.c_int64 * x.dim())(*x.shape)
        if self.on_gpu:
            strides = (ctypes.c_int64 * x.dim())(*x.stride())
            return self.good(self.lib.gradus_lent(ctypes.c_uint64(x.data_ptr()), code, rank, dims, strides))
        x = x.contiguous()
        size = ctypes.c_int64(x.numel() * x.element_size())
        return self.good(self.lib.gradus_upload(ctypes.c_void_p(x.data_ptr()), size, code, rank, dims))

    def case(self, op, sets, numbers=()):
        """A case of the op on sets of torch tensors; returns its handle and those of the tensors."""
        handles = [self.tensor(x) for inputs in sets for x in inputs]
        numbers = [float(n) for n in numbers]
        case = self.lib.gradus_case(
            op.encode(), (ctypes.c_int64 * len(handles))(*handles), ctypes.c_int(len(sets)), ctypes.c_int(len(sets[0])),
            (ctypes.c_double * len(numbers))(*numbers), ctypes.c_int(len(numbers)))
        if case <= 0:
            wrong = self.lib.gradus_error().decode()
            self.free(handles)
            raise RuntimeError(wrong)
        return case, handles

    def model(self, name, dtype, n, side):
        code = ctypes.c_int(DTYPES.index(dtype))
        return self.good(self.lib.gradus_model(name.encode(), code, ctypes.c_int(n), ctypes.c_int(side)))

    def run(self, case, times):
        self.good(self.lib.gradus_run(ctypes.c_int64(case), ctypes.c_int(times)))

    def result(self, case, index=0):
        """What a case has computed last, as a float32 tensor of one dim: on the GPU, or on the CPU if that is emulated."""
        tensor = self.good(self.lib.gradus_result(ctypes.c_int64(case), ctypes.c_int(index)))
        try:
            count = self.good(self.lib.gradus_count(ctypes.c_int64(tensor))) - 1
            values = torch.empty(count, dtype=torch.float32, device=self.device if self.on_gpu else "cpu")
            if self.on_gpu:
                torch.cuda.synchronize()  # the memory may be in use until then
                self.good(self.lib.gradus_copy(ctypes.c_int64(tensor), ctypes.c_uint64(values.data_ptr()), ctypes.c_int64(count)))
                self.synchronize()
                return values
            self.good(self.lib.gradus_download(ctypes.c_int64(tensor), ctypes.c_void_p(values.data_ptr()), ctypes.c_int64(count)))
            return values
        finally:
            self.free([tensor])

    def synchronize(self):
        self.good(self.lib.gradus_synchronize())

    def free(self, handles):
        for handle in handles:
            self.lib.gradus_free(ctypes.c_int64(handle))

"""Gradus and PyTorch beside each other on one device, in one run: ops, then steps of training. A line of JSON for each.

    python3 compare.py LIBRARY [--device cuda:0] [--seconds 170] [--only FAMILY,...] [--tiny] [--models]

The results are compared first. Times are medians of rounds that take turns; inputs are random, in sets that together exceed the caches.
"""
import argparse
import json
import statistics
import sys
import time

import torch

import cases as table
import models
from gradus import Gradus

parser = argparse.ArgumentParser()
parser.add_argument("library")
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--seconds", type=float, default=170)
parser.add_argument("--only", default="")
parser.add_argument("--tiny", action="store_true")
parser.add_argument("--models", action="store_true")
args = parser.parse_args()

ours = Gradus(args.library, args.device)
on_gpu = ours.on_gpu
device = torch.device(args.device if on_gpu else "cpu")
ROUNDS = 7
# Of a set of rotating inputs.
BYTES = 256 << 20
# float32 means float32: our products round no operand to tf32.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True
began = time.monotonic()


wrong = []


def line(**facts):
    print(json.dumps(facts), flush=True)
    if facts["kind"] == "failed" or not facts.get("right", True):
        wrong.append(f"{facts['family']}: {facts['name']}")


def span(run, stream, times):
    """Seconds of one of `times` runs."""
    if not on_gpu:
        start = time.perf_counter()
        run(times)
        ours.synchronize()
        return (time.perf_counter() - start) / times
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record(stream)
    run(times)
    last.record(stream)
    last.synchronize()
    return first.elapsed_time(last) / times / 1e3


def alternate(run_ours, run_theirs, sets):
    """The median seconds of both, in rounds of 10 ms and more that take turns."""
    if not on_gpu:  # a trial
        return span(run_ours, None, 1), span(run_theirs, None, 1)
    current = torch.cuda.current_stream()
    times = []
    for run, stream in [(run_ours, ours.stream), (run_theirs, current)]:
        run(sets)
        seconds = span(run, stream, sets)
        times.append(max(sets, min(200, int(0.01 / max(seconds, 1e-7)))))
    found = ([], [])
    for _ in range(ROUNDS):
        found[0].append(span(run_ours, ours.stream, times[0]))
        found[1].append(span(run_theirs, current, times[1]))
    return [statistics.median(seconds) for seconds in found]


def tolerance(case, dtype):
    if case.tolerance is not None:
        return case.tolerance
    return {torch.float32: 2e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}.get(dtype, 2e-4)


def difference(case, handle, theirs):
    """The largest difference of all results, relative to four times the root of the mean square of PyTorch's: a large element."""
    worst = 0.0
    for i in range(case.results):
        want = (theirs[i] if isinstance(theirs, tuple) else theirs).detach().float().flatten()
        got = ours.result(handle, i)
        if got.numel() != want.numel():
            raise RuntimeError(f"result {i} has {got.numel()} elements, PyTorch's {want.numel()}")
        scale = 4 * want.square().mean().sqrt().item() or 1.0
        off = (got - want).abs().max().item() / scale
        worst = max(worst, off if off < 1e30 else 1e30)  # JSON has neither NaN nor infinity
    return worst


def compare(case):
    first = case.inputs()
    size = sum(x.numel() * x.element_size() for x in first)
    count = max(2, min(16, BYTES // max(size, 1))) if on_gpu else 2
    sets = [first] + [case.inputs() for _ in range(count - 1)]
    if case.family == "conv":  # both are fastest so, and give images like that from layer to layer
        sets = [[x.contiguous(memory_format=torch.channels_last) for x in inputs] for inputs in sets]
    handle, handles = ours.case(case.op, sets, case.numbers)
    if on_gpu:
        torch.cuda.synchronize()  # our queue does not wait for PyTorch's, which makes the inputs
    try:
        ours.run(handle, 1)
        worst = difference(case, handle, case.theirs(*sets[0])) if case.results else 0.0
        turn = [0]

        def run_theirs(times):
            for _ in range(times):
                case.theirs(*sets[turn[0] % count])
                turn[0] += 1

        mine, other = alternate(lambda times: ours.run(handle, times), run_theirs, count)
    finally:
        ours.synchronize()
        ours.free([handle] + handles)
    bytes = case.bytes or 0
    line(kind="op", family=case.family, name=case.name, us=1e6 * mine, torch_us=1e6 * other, ratio=other / mine,
         tflop_s=case.flops / mine / 1e12, gb_s=bytes / mine / 1e9, difference=worst, right=worst <= tolerance(case, first[0].dtype))


def ops():
    only = [family for family in args.only.split(",") if family]
    chosen = [case for case in table.cases(device, args.tiny) if not only or case.family in only]
    # Whatever time is left, every family is looked at: one case of each in turn.
    families = {}
    for case in chosen:
        families.setdefault(case.family, []).append(case)
    turns = [group[i] for i in range(max(map(len, families.values()))) for group in families.values() if i < len(group)]
    for case in turns:
        if time.monotonic() - began > args.seconds:
            line(kind="left out", family=case.family, name=case.name)
            continue
        try:
            with torch.no_grad():
                compare(case)
        except Exception as error:  # one case must not hide the others
            line(kind="failed", family=case.family, name=case.name, error=str(error)[:500])
        if on_gpu:
            torch.cuda.empty_cache()


def training():
    for name, dtype, n, side in models.STEPS:
        if time.monotonic() - began > args.seconds:
            line(kind="left out", family="training", name=name)
            continue
        what = f"{name} batch {n} {table.short(dtype)}"
        if args.tiny:
            n, side = 2, {"mnist_cnn": 28, "resnet18": 8, "char_lstm": 1}[name]
        try:
            handle = ours.model(name, dtype, n, side)
            theirs = models.step(name, dtype, n, side, device)

            def run_theirs(times):
                for _ in range(times):
                    theirs()

            mine, other = alternate(lambda times: ours.run(handle, times), run_theirs, 1)
            loss = ours.result(handle).item()
            ours.synchronize()
            ours.free([handle])
            line(kind="training", family="training", name=what, us=1e6 * mine, torch_us=1e6 * other, ratio=other / mine,
                 loss=loss if loss == loss else None, right=loss < 20)
        except Exception as error:
            line(kind="failed", family="training", name=what, error=str(error)[:500])
        if on_gpu:
            torch.cuda.empty_cache()


line(kind="machine", torch=torch.__version__, device=torch.cuda.get_device_name() if on_gpu else "the CPU",
     cudnn=torch.backends.cudnn.version() if on_gpu else None)
training() if args.models else ops()
if wrong:
    sys.exit(f"error: {len(wrong)} wrong or failed: {', '.join(wrong)}")

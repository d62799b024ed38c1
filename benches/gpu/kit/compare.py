"""Gradus and PyTorch beside each other on one device, in one run: ops, then steps of training. A line of JSON for each.

    python3 compare.py LIBRARY [--device cuda:0] [--seconds 170] [--only FAMILY,...] [--tiny] [--models]

The results are compared first, in some families those of both with doubles too. Times are medians of rounds that take turns; inputs are
random, in sets that together exceed the caches. A case's share of the limit is the time that its bytes or operations would take at the
rates that PyTorch reaches in the same run (limits.py), divided by ours.
"""
import argparse
import json
import statistics
import sys
import time

import guard

parser = argparse.ArgumentParser()
parser.add_argument("library")
parser.add_argument("--device", default="cuda:0")
parser.add_argument("--seconds", type=float, default=170)
parser.add_argument("--only", default="")
parser.add_argument("--tiny", action="store_true")
parser.add_argument("--models", action="store_true")
# What guard.py tells the process that measures.
parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
args = parser.parse_args()
on_gpu = args.device.startswith("cuda")

if not args.worker:
    # Several models take that long to be built and warmed up; the emulator is slow.
    wrong = guard.watch([sys.executable, __file__, *sys.argv[1:], "--worker"], args.seconds, 40 if on_gpu else 600)
    sys.exit(f"error: {len(wrong)} wrong or failed: {', '.join(wrong)}" if wrong else 0)

import torch

import cases as table
import limits
import models
from cases.base import SHORT
from gradus import Gradus

ours = Gradus(args.library, args.device)
device = torch.device(args.device if on_gpu else "cpu")
ROUNDS = 7
# Of a set of rotating inputs: more than twice the second cache of an H200, which has 50 MB.
BYTES, SETS = 128 << 20, 64
torch.backends.cudnn.benchmark = True
began = time.monotonic()


def allow_tf32(yes):
    """Whether float32 may mean tf32 in PyTorch's products and convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = yes
    torch.backends.cudnn.allow_tf32 = yes


def line(**facts):
    print(json.dumps(facts), flush=True)


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


def all_of(results):
    return list(results) if isinstance(results, (tuple, list)) else [results] if results is not None else []


def off(got, want):
    """The largest difference, relative to four times the root of the mean square of what is wanted: a large element."""
    got, want = got.detach().flatten().double(), want.detach().flatten().double()
    if got.numel() != want.numel():
        raise RuntimeError(f"a result has {got.numel()} elements, PyTorch's {want.numel()}")
    if want.numel() == 0:
        return 0.0
    scale = 4 * want.square().mean().sqrt().item() or 1.0
    worst = (got - want).abs().max().item() / scale
    return worst if worst < 1e30 else 1e30  # JSON has neither NaN nor infinity


def nbytes(tensors):
    return sum(x.numel() * x.element_size() for x in tensors)


def share(case, moved, seconds):
    """The time at the machine's rates, divided by ours."""
    floor = max(moved / rates["bytes"], case.flops / rates[case.peak] if case.flops else 0.0)
    return floor / seconds


def compare(case):
    first = case.inputs()
    size = nbytes(first)
    count = max(2, min(SETS, -(-BYTES // max(size, 1)))) if on_gpu else 2
    sets = [first] + [case.inputs() for _ in range(count - 1)]
    if case.last:  # both are fastest so, and give images like that from layer to layer
        order = {4: torch.channels_last, 5: torch.channels_last_3d}
        sets = [[x.contiguous(memory_format=order.get(x.dim(), torch.contiguous_format)) for x in inputs] for inputs in sets]
    handle, handles = ours.case(case.op, sets, case.numbers)
    if on_gpu:
        torch.cuda.synchronize()  # our queue does not wait for PyTorch's, which makes the inputs
    try:
        ours.run(handle, 1)
        theirs = all_of(case.theirs(*sets[0]))
        got = [ours.result(handle, i) for i in range(case.results)]
        worst = max((off(got[i], theirs[i]) for i in range(case.results)), default=0.0)
        errors = {}
        if case.exact:
            exact = case.theirs(*[x.double() for x in sets[0]])
            errors = dict(error=off(got[0], exact), torch_error=off(theirs[0], exact))
        moved = case.bytes or size + nbytes(theirs)
        right, dtype = worst <= tolerance(case, first[0].dtype), first[0].dtype
        del got, theirs, first
        turn = [0]

        def run_theirs(times):
            for _ in range(times):
                case.theirs(*sets[turn[0] % count])
                turn[0] += 1

        mine, other = alternate(lambda times: ours.run(handle, times), run_theirs, count)
    finally:
        ours.synchronize()
        ours.free([handle] + handles)
    line(kind="op", family=case.family, name=case.name, us=1e6 * mine, torch_us=1e6 * other, ratio=other / mine, dtype=str(dtype),
         tflop_s=case.flops / mine / 1e12, gb_s=moved / mine / 1e9, share=share(case, moved, mine), difference=worst, right=right, **errors)


def train(name, dtype, n, side, what):
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


def ops():
    """Family, name and what to do, of each case: one of each family in turn, so that all are looked at whatever time is left."""
    only = [family for family in args.only.split(",") if family]
    families = {}
    for case in table.cases(device, args.tiny):
        if not only or any(case.family.startswith(family) for family in only):
            families.setdefault(case.family, []).append(case)
    for i in range(max(map(len, families.values()), default=0)):
        for group in families.values():
            if i < len(group):
                yield group[i].family, group[i].name, lambda case=group[i]: (allow_tf32(case.tf32), compare(case))


def steps():
    for name, dtype, n, side in models.STEPS:
        what = f"{name} batch {n} {SHORT[dtype]}"
        if args.tiny:
            n, side = 2, {"mnist_cnn": 28, "resnet18": 8, "char_lstm": 1}[name]
        yield "training", what, lambda name=name, dtype=dtype, n=n, side=side, what=what: train(name, dtype, n, side, what)


allow_tf32(False)
line(kind="machine", torch=torch.__version__, device=torch.cuda.get_device_name() if on_gpu else "the CPU",
     cudnn=torch.backends.cudnn.version() if on_gpu else None)
if not args.models:
    rates = limits.measure(lambda run: span(lambda times: [run() for _ in range(times)], torch.cuda.current_stream() if on_gpu else None, 3), on_gpu)
    line(kind="limit", **rates)
for index, (family, name, run) in enumerate(steps() if args.models else ops()):
    if index < args.skip:
        continue
    line(kind="begun", index=index, family=family, name=name)
    if time.monotonic() - began > args.seconds:
        line(kind="left out", family=family, name=name)
        continue
    try:
        if args.models:
            run()
        else:
            with torch.no_grad():
                run()
        if on_gpu:
            torch.cuda.empty_cache()
    except Exception as error:  # one case must not hide the others
        line(kind="failed", family=family, name=name, error=str(error)[:500])
        if on_gpu:
            torch.cuda.synchronize()  # fails, and ends this process, if nothing can be launched any more
            torch.cuda.empty_cache()
line(kind="end")

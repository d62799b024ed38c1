"""Makes one Markdown table of the lines of JSON in a folder of results.

    python3 report.py FOLDER > FOLDER/table.md
"""
import glob
import json
import math
import os
import sys

folder = sys.argv[1]
lines = []
for path in sorted(glob.glob(os.path.join(folder, "*.jsonl"))):
    for text in open(path, errors="replace"):
        try:
            lines.append(json.loads(text))
        except ValueError:
            pass  # cut short by a time limit
kind = lambda *names: [line for line in lines if line.get("kind") in names]
number = lambda line, key, digits: f"{line[key]:.{digits}f}" if line.get(key) else ""
cell = lambda text: str(text).replace("|", "/").replace("\n", " ")
percent = lambda share: f"{100 * share:.0f} %" if share else ""


def mean(numbers):
    """The geometric one."""
    return math.exp(sum(math.log(max(n, 1e-9)) for n in numbers) / len(numbers))


gpu, machine, limits = next(iter(kind("gpu")), {}), next(iter(kind("machine")), {}), next(iter(kind("limit")), {})
print(f"# {gpu.get('name', 'No GPU')}\n")
if machine:
    cudnn = f", cuDNN {machine['cudnn']}" if machine["cudnn"] else ""
    print(f"Beside PyTorch {machine['torch']}{cudnn} on {machine['device']}. The ratio is PyTorch's time divided by ours: above 1 we are "
          "faster.\n")
if limits:
    rates = ", ".join(f"{name} {rate / 1e12:.1f}" for name, rate in limits.items() if name not in ("kind", "bytes"))
    print(f"A case's share of the limit is what its bytes or operations would take at the rates of PyTorch in this run, divided by our time: "
          f"copies {limits['bytes'] / 1e9:.0f} GB/s; products, in TFLOP/s, {rates}, where 6xbf16 stands for `f32` by six products of `bf16`.\n")
print("| stage | outcome | seconds |\n|---|---|---|")
for line in kind("stage"):
    print(f"| {line['stage']} | {cell(line['outcome'])} | {line['seconds']} |")

families = {}
for line in kind("op", "training"):
    families.setdefault(line["family"], []).append(line)
if families:
    print("\n| family | cases | mean of the ratios | least | mean share of the limit | wrong |\n|---|---|---|---|---|---|")
    for family, found in families.items():
        ratios, shares = [line["ratio"] for line in found], [line["share"] for line in found if line.get("share")]
        wrong = sum(not line["right"] for line in found)
        print(f"| {family} | {len(found)} | {mean(ratios):.2f} | {min(ratios):.2f} | {percent(mean(shares)) if shares else ''} | {wrong or ''} |")
    print("\nDifferences from PyTorch's results and errors against doubles, ours and PyTorch's, are relative to a large element.")
    print("\n| case | ratio | ours, us | PyTorch, us | TFLOP/s | GB/s | share of the limit | difference | errors |\n|---|---|---|---|---|---|---|---|---|")
    for family, found in families.items():
        for line in found:
            off = f"{line['difference']:.1e}" if "difference" in line else ""
            errors = f"{line['error']:.1e}, {line['torch_error']:.1e}" if "error" in line else ""
            print(f"| {family}: {cell(line['name'])} | {line['ratio']:.2f} | {line['us']:.1f} | {line['torch_us']:.1f} | {number(line, 'tflop_s', 1)} "
                  f"| {number(line, 'gb_s', 0)} | {percent(line.get('share'))} | {off}{'' if line['right'] else ' **wrong**'} | {errors} |")
alone = kind("alone")
if alone:
    print("\nWithout another library beside it:\n\n| op | us | TFLOP/s | GB/s |\n|---|---|---|---|")
    for line in alone:
        print(f"| {line['name']} | {line['us']:.1f} | {number(line, 'tflop_s', 1)} | {number(line, 'gb_s', 0)} |")
missing = kind("failed", "left out")
if missing:
    print()
    for line in missing:
        print(f"- {line['kind']}: {line['family']}: {line['name']}{': ' + line['error'] if 'error' in line else ''}")

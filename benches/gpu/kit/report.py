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

gpu, machine = next(iter(kind("gpu")), {}), next(iter(kind("machine")), {})
print(f"# {gpu.get('name', 'No GPU')}\n")
if machine:
    cudnn = f", cuDNN {machine['cudnn']}" if machine["cudnn"] else ""
    print(f"Beside PyTorch {machine['torch']}{cudnn} on {machine['device']}. The ratio is PyTorch's time divided by ours: above 1 we are "
          "faster.\n")
print("| stage | outcome | seconds |\n|---|---|---|")
for line in kind("stage"):
    print(f"| {line['stage']} | {line['outcome']} | {line['seconds']} |")

families = {}
for line in kind("op", "training"):
    families.setdefault(line["family"], []).append(line)
if families:
    print("\n| family | cases | geometric mean of the ratios | least | wrong |\n|---|---|---|---|---|")
    for family, found in families.items():
        ratios = [line["ratio"] for line in found]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        wrong = sum(not line["right"] for line in found)
        print(f"| {family} | {len(found)} | {mean:.2f} | {min(ratios):.2f} | {wrong or ''} |")
    print("\n| case | ratio | ours, us | PyTorch, us | TFLOP/s | GB/s | difference |\n|---|---|---|---|---|---|---|")
    for family, found in families.items():
        for line in found:
            off = f"{line['difference']:.1e}" if "difference" in line else ""
            print(f"| {family}: {line['name']} | {line['ratio']:.2f} | {line['us']:.1f} | {line['torch_us']:.1f} | {number(line, 'tflop_s', 1)} "
                  f"| {number(line, 'gb_s', 0)} | {off}{'' if line['right'] else ' **wrong**'} |")
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

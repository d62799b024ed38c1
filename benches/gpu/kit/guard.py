"""Runs a worker that prints a line of JSON for each of its cases, and starts it again behind a case that hangs or ends it."""
import json
import queue
import subprocess
import sys
import threading
import time

# So often at most: each start costs some seconds.
RESTARTS = 6


def lines_of(process):
    """A queue of the lines that it prints, and None at the end."""
    lines = queue.Queue()

    def read():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def watch(command, seconds, patience):
    """Prints the worker's lines until it has come to its end; returns what failed. `command` takes --skip CASES and --seconds SECONDS.

    A worker says {"kind": "begun", "index": …} before a case, one line about it, and {"kind": "end"} at last. One that is silent for
    `patience` seconds is ended. What fails for all cases, such as a library that cannot be loaded, ends the first one before it has begun.
    """
    began, skip, wrong = time.monotonic(), 0, []

    def failed(case, why):
        print(json.dumps({"kind": "failed", "family": case["family"], "name": case["name"], "error": why}), flush=True)
        wrong.append(f"{case['family']}: {case['name']}")

    for start in range(RESTARTS + 1):
        left = seconds - (time.monotonic() - began)
        process = subprocess.Popen([*command, "--skip", str(skip), "--seconds", f"{left:.0f}"], stdout=subprocess.PIPE, text=True)
        lines, begun, before = lines_of(process), None, skip
        while True:
            try:
                text = lines.get(timeout=patience)
            except queue.Empty:
                process.kill()
                why = f"no answer for {patience:.0f} s"
                break
            if text is None:
                why = f"ended the process with {process.wait()}"
                break
            try:
                line = json.loads(text)
            except ValueError:
                print(text, end="", flush=True)
                continue
            kind = line.get("kind")
            if kind == "end":
                process.wait()
                return wrong
            if kind == "begun":
                begun, skip = line, line["index"]
                continue
            if begun is not None:
                begun, skip = None, skip + 1
            if start and kind in ("machine", "limit"):
                continue  # said before
            print(text, end="", flush=True)
            if kind == "failed" or not line.get("right", True):
                wrong.append(f"{line['family']}: {line['name']}")
        process.wait()
        if begun is not None:
            failed(begun, why)
            skip += 1
        elif skip == before:
            wrong.append(f"the worker: {why}")
            return wrong
        print(f"case {skip - 1}: {why}: again from the next", file=sys.stderr, flush=True)
    wrong.append(f"the worker ended {RESTARTS + 1} times")
    return wrong

"""The child that runs PyTorch: a request per line on stdin, an answer per line on stdout, both JSON.

{"build": id, "code": python that defines f, "grad": bool} -> {"numel": n, "values": [...]}
{"time": id, "reps": r, "samples": s} -> {"seconds": the least of s means over r runs}
{"drop": id} -> {}
An answer with "error" says what went wrong instead.
"""
import gc, json, os, sys, time, traceback
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # What libraries print must not look like an answer.
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
MASK = 0xFFFFFFFF


def mixed(seed, n):
    x = (torch.arange(n) * 0x9E3779B1 + seed * 0x85EBCA77) & MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


def rnd(seed, *shape, scale=1.0):
    """Uniform in [-scale, scale), the numbers of data.rs."""
    n = 1
    for s in shape:
        n *= s
    return ((mixed(seed, n) >> 8).float() * 2.0**-23 - 1).mul_(scale).reshape(shape)


def ints(seed, *shape, below):
    n = 1
    for s in shape:
        n *= s
    return (mixed(seed, n) % below).reshape(shape)


def set_weights(model):
    """Uniform within 1 / sqrt(fan_in), seeded by position; biases 0; scales of normalising layers stay 1."""
    with torch.no_grad():
        for i, (name, p) in enumerate(model.named_parameters()):
            if "bias" in name:
                p.zero_()
            elif p.dim() > 1:
                p.copy_(rnd(1000 + i, *p.shape, scale=float((p.numel() // p.shape[0]) ** -0.5)))
    return model


def last(t):
    return t.to(memory_format=torch.channels_last)


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.down = None
        if stride != 1 or i != o:
            self.down = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + (x if self.down is None else self.down(x)))


def resnet18():
    blocks = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    return nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                         *[Block(*b) for b in blocks], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


def mnist_cnn():
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10))


def mlp():
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


class CharLstm(nn.Module):
    def __init__(self, vocab, embed, hidden):
        super().__init__()
        self.embed = nn.Embedding(vocab, embed)
        self.rnn = nn.LSTM(embed, hidden, 2)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, x):
        return self.head(self.rnn(self.embed(x))[0]).flatten(0, 1)


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)


def adam(model):
    return torch.optim.Adam(model.parameters(), 1e-3)


def train(model, x, t, make_optimizer, bf16=False, channels_last=False, compile=False):
    """A training step that gives its loss."""
    set_weights(model)
    if channels_last:
        model, x = last(model), last(x)
    optimizer = make_optimizer(model)
    run = torch.compile(model) if compile else model

    def f():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(run(x), t)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return f


def infer(model, x, bf16=False, channels_last=False, compile=False):
    set_weights(model).eval()
    if channels_last:
        model, x = last(model), last(x)
    run = torch.compile(model) if compile else model

    def f():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return run(x)

    return f


def flat(result):
    if isinstance(result, (tuple, list)):
        return torch.cat([flat(r) for r in result])
    return result.detach().reshape(-1).float()


def sample(result):
    all = flat(result)
    n = all.numel()
    at = torch.arange(min(n, 1024))
    if n > 1024:
        at = (at * 2654435761 + 12345) % n
    return {"numel": n, "values": [float(v) for v in all[at]]}


forms = {}


def answer(m):
    if "build" in m:
        env = dict(globals())
        with torch.inference_mode(not m["grad"]):
            exec(m["code"], env)
            forms[m["build"]] = (env["f"], m["grad"])
            return sample(env["f"]())
    if "time" in m:
        f, grad = forms[m["time"]]
        reps, least = range(m["reps"]), float("inf")
        with torch.inference_mode(not grad):
            for _ in range(m["samples"]):
                start = time.perf_counter()
                for _ in reps:
                    f()
                least = min(least, time.perf_counter() - start)
        return {"seconds": least / m["reps"]}
    forms.pop(m["drop"], None)
    gc.collect()
    return {}


def say(m):
    print(json.dumps(m).replace("NaN", "null").replace("Infinity", "1e38"), file=out, flush=True)


capability = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "?")()
say({"torch": torch.__version__, "capability": capability})
for line in sys.stdin:
    try:
        say(answer(json.loads(line)))
    except Exception as e:
        traceback.print_exc()
        say({"error": f"{type(e).__name__}: {e}".split("\n")[0][:300]})

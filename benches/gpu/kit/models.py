"""Steps of training in PyTorch, eager: the models of src/models.rs."""
import torch
import torch.nn as nn
import torch.nn.functional as F

# Name, dtype, batch, side of images or steps of text.
STEPS = [("mnist_cnn", torch.float32, 64, 28), ("char_lstm", torch.float32, 32, 64), ("char_lstm", torch.bfloat16, 32, 64),
         ("resnet18", torch.bfloat16, 128, 224), ("resnet18", torch.float32, 128, 224)]


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.down = None
        if stride != 1 or i != o:
            self.down = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + (x if self.down is None else self.down(x)))


def resnet18():
    blocks = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
    return nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
                         *[Block(*b) for b in blocks], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def mnist_cnn():
    return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))


class CharLm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.head = nn.Embedding(96, 64), nn.LSTM(64, 512, 2), nn.Linear(512, 96)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0]).flatten(0, 1)


def step(name, dtype, n, side, device):
    """A function that makes one step."""
    if name == "char_lstm":
        model = CharLm().to(device, dtype)
        x, target = torch.randint(0, 96, (side, n), device=device), torch.randint(0, 96, (side * n,), device=device)
        optimizer = torch.optim.Adam(model.parameters())
    else:
        channels, classes = (1, 10) if name == "mnist_cnn" else (3, 1000)
        last = torch.channels_last
        model = (mnist_cnn() if name == "mnist_cnn" else resnet18()).to(device, dtype).to(memory_format=last)
        x = torch.randn(n, channels, side, side, device=device).to(dtype).contiguous(memory_format=last)
        target = torch.randint(0, classes, (n,), device=device)
        momentum = lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
        optimizer = (torch.optim.Adam if name == "mnist_cnn" else momentum)(model.parameters())

    def run():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), target).backward()
        optimizer.step()

    return run

"""What is measured: ops on random tensors, with PyTorch's form of each. A file for each sort of op."""
from . import bandwidth, convolutions, indexing, layers, products, training
from .base import Table


def cases(device, tiny):
    """All of them; `tiny` shrinks everything for a trial without a GPU."""
    table = Table(device, tiny)
    for part in (products, convolutions, bandwidth, layers, indexing, training):
        part.add_to(table)
    return table.cases

"""What tests of several processes run in each: inference over nodes that they share."""

import sys

import torch
import torch.distributed as dist

from fimp.nn import FIMPLayer
from fimp.tokenizers import Tokens
from fimp.train import layerwise_inference
from fimp.train.inference import partition, passes


def problem():
    torch.manual_seed(0)
    tokens = Tokens(torch.randn(300, 4, 8, dtype=torch.float64), torch.rand(300, 4) > 0.2)
    layers = [FIMPLayer(8, 2).double() for _ in range(3)]
    return layers, tokens, torch.randint(0, 300, (2, 1500)), torch.rand(1500, dtype=torch.float64)


def infer(group=None, budget="220 kB"):
    layers, tokens, edge_index, weight = problem()
    return layerwise_inference(layers, tokens, edge_index, edge_weight=weight, memory_budget=budget, group=group)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    # So small that the halo takes several messages.
    partition._MESSAGE = 2000
    found = []
    for passes._REPEATS in (1.0, 1e9):
        found.append(infer(dist.group.WORLD))
    torch.save(found, f"{sys.argv[1]}/{dist.get_rank()}.pt")
    dist.destroy_process_group()

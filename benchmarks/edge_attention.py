"""Cross-node attention on a CPU: time, peak memory, and share of the machine's matrix-multiply rate.

    python benchmarks/edge_attention.py [--json FILE]

One layer, forward and backward, single precision, random graphs in which every node hears the same number of others:

- `fimp`: `CrossNodeAttention`, projections once per node, then `edge_attention`; `fimp, attention alone` is the latter;
- `authors`: `nn.MultiheadAttention` called once with the tokens of both ends of every edge, and its messages averaged
  at their destinations, as AMPConv does (github.com/HarryL-Git/ampnet, `src/ampnet/conv/amp_conv.py`); the module also
  returns the attention averaged over heads, which it does unless told not to;
- `authors, fast`: the same with `need_weights=False`, which AMPConv does not pass;
- `gather + SDPA`: projections once per node, queries, keys and values gathered per edge,
  `F.scaled_dot_product_attention`, `index_add`;
- `GATv2Conv`, `TransformerConv`: PyTorch Geometric's, for scale, on *one* vector of the same width per node.

Ways take turns, round after round, in one process; the least time of each counts, since others on the machine can only
slow it down. Peak memory is that of a fresh process per way: resident memory at its highest during one forward and
backward pass, less what was resident before (inputs, weights and libraries, after a pass over a graph of two nodes),
with the C library told to give freed memory back at once (`MALLOC_MMAP_THRESHOLD_`): what is resident is then what is
held. Floating-point operations are the useful ones whatever a way does: projections 8 N T D^2 and attention 4 E T S D
forward, 2 and 2.5 times as many backward. The rate that they are compared with is that of one large `torch.matmul`, in
the same rounds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import held_by, measure_times, peak_memory, show, text, versions
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.nn.cross_attention import CrossNodeAttention
from fimp.ops import edge_attention


class Size(NamedTuple):
    """A problem: N nodes that hear ``degree`` others each, T tokens of width D per node."""

    nodes: int
    degree: int
    tokens: int
    width: int
    heads: int

    @property
    def attention_flops(self) -> int:
        """Useful operations of attention, forward and backward."""
        return 14 * self.nodes * self.degree * self.tokens**2 * self.width

    @property
    def layer_flops(self) -> int:
        """Those and the projections'."""
        return self.attention_flops + 24 * self.nodes * self.tokens * self.width**2


SIZES = (
    Size(256, 8, 50, 64, 4),
    Size(256, 8, 50, 256, 8),
    Size(128, 8, 128, 256, 8),
    Size(424, 5, 16, 256, 4),
    Size(64, 8, 197, 768, 12),
)
#: Where only the share of the matrix-multiply rate is asked for: heads of 64.
SHARES = (Size(424, 5, 16, 256, 4), Size(256, 8, 64, 256, 4), Size(64, 8, 256, 256, 4))


def graph(size: Size) -> Tensor:
    """``[2, E]``: every node hears ``degree`` random ones; edges in random order."""
    generator = torch.Generator().manual_seed(0)
    dst = torch.arange(size.nodes).repeat_interleave(size.degree)
    src = torch.randint(size.nodes, dst.shape, generator=generator)
    return torch.stack([src, dst])[:, torch.randperm(len(dst), generator=generator)]


def mean_at_destinations(messages: Tensor, dst: Tensor, nodes: int) -> Tensor:
    """Average over in-edges, zero without any."""
    degree = torch.bincount(dst, minlength=nodes).clamp(min=1)
    return messages.new_zeros(nodes, *messages.shape[1:]).index_add(0, dst, messages) / degree[:, None, None]


class PerEdge(nn.Module):
    """One MultiheadAttention call on the tokens of both ends of every edge."""

    def __init__(self, size: Size, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size.width, size.heads, batch_first=True)
        self.need_weights = need_weights

    def forward(self, h: Tensor, edge_index: Tensor) -> Tensor:
        """Tokens ``[N, T, D]`` to messages ``[N, T, D]``."""
        src, dst = edge_index
        messages, _ = self.attention(h[dst], h[src], h[src], need_weights=self.need_weights)
        return mean_at_destinations(messages, dst, len(h))


class Gathered(nn.Module):
    """Projections once per node; everything else once per edge."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.project, self.back = nn.Linear(size.width, 3 * size.width), nn.Linear(size.width, size.width)

    def forward(self, h: Tensor, edge_index: Tensor) -> Tensor:
        """Tokens ``[N, T, D]`` to messages ``[N, T, D]``."""
        src, dst = edge_index
        query, key, value = self.project(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        messages = F.scaled_dot_product_attention(query[dst], key[src], value[src])
        return self.back(mean_at_destinations(messages.transpose(1, 2).flatten(2), dst, len(h)))


class Fimp(nn.Module):
    """The layer of this project."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention = CrossNodeAttention(size.width, size.heads)

    def forward(self, h: Tensor, edge_index: Tensor) -> Tensor:
        """Tokens ``[N, T, D]`` to messages ``[N, T, D]``."""
        return self.attention(h, h, edge_index)


class AttentionAlone(nn.Module):
    """Its operator, on tokens that stand for query, key and value at once."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads

    def forward(self, h: Tensor, edge_index: Tensor) -> Tensor:
        """Tokens ``[N, T, D]`` to messages ``[N, T, D]``."""
        heads = h.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return edge_attention(heads, heads, heads, edge_index).transpose(1, 2).flatten(2)


def _vectors(name: str) -> Callable[[Size], nn.Module]:
    def build(size: Size) -> nn.Module:
        from torch_geometric import nn as pyg

        return getattr(pyg, name)(size.width, size.width // size.heads, heads=size.heads)

    return build


OURS, ALONE, THEIRS, FAST = "fimp", "fimp, attention alone", "authors", "authors, fast"
VECTORS = ("GATv2Conv", "TransformerConv")
WAYS: dict[str, Callable[[Size], nn.Module]] = {
    OURS: Fimp,
    ALONE: AttentionAlone,
    THEIRS: lambda size: PerEdge(size, need_weights=True),
    FAST: lambda size: PerEdge(size, need_weights=False),
    "gather + SDPA": Gathered,
    **{name: _vectors(name) for name in VECTORS},
}


def work_of(way: str, size: Size) -> Callable[[], None]:
    """A forward and backward pass of a way over random tokens."""
    torch.manual_seed(0)
    module, edge_index = WAYS[way](size), graph(size)
    shape = (size.nodes, size.width) if way in VECTORS else (size.nodes, size.tokens, size.width)
    h, grad = torch.randn(shape, requires_grad=True), torch.randn(shape)

    def work() -> None:
        module.zero_grad()
        h.grad = None
        module(h, edge_index).backward(grad)

    return work


def works_of(size: Size, ways: list[str]) -> dict[str, Callable[[], None]]:
    """A pass of each way."""
    return {way: work_of(way, size) for way in ways}


def compare(size: Size) -> dict[str, Any]:
    """Measure all ways at a size and print how they compare with ours."""
    seconds, rate = measure_times(works_of(size, list(WAYS)))
    memory = {way: peak_memory(__file__, way, *size) for way in WAYS if way not in VECTORS}
    rows = {}
    for way, least in seconds.items():
        row: dict[str, Any] = {"seconds": least, "time_ratio": least / seconds[OURS]}
        peak, ours = memory.get(way), memory[OURS]
        row |= {"peak_mb": peak, "memory_ratio": peak / ours if peak and ours else None}
        if way not in VECTORS:
            flops = (size.attention_flops if way == ALONE else size.layer_flops) / least
            row |= {"flops_per_second": flops, "share_of_matmul": flops / rate}
        rows[way] = row
        show(tuple(size), way, *(text(row, *column) for column in COLUMNS))
    return {**size._asdict(), "matmul_flops_per_second": rate, "ways": rows}


COLUMNS = (
    ("seconds", "{:.4f}"),
    ("time_ratio", "{:.2f}"),
    ("peak_mb", "{:.0f}"),
    ("memory_ratio", "{:.2f}"),
    ("flops_per_second", "{:.3g}"),
    ("share_of_matmul", "{:.0%}"),
)


def share(size: Size) -> dict[str, Any]:
    """Measure and print the share of the matrix-multiply rate that the operator and the layer reach."""
    seconds, rate = measure_times(works_of(size, [OURS, ALONE]))
    alone, layer = size.attention_flops / seconds[ALONE] / rate, size.layer_flops / seconds[OURS] / rate
    show(tuple(size), size.tokens, f"{alone:.0%}", f"{layer:.0%}", f"{rate:.3g}")
    return {**size._asdict(), "attention": alone, "layer": layer, "matmul_flops_per_second": rate}


def summarise(sizes: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean and least of the ratios to either form of the authors' way, over sizes."""
    out = {}
    for way in (THEIRS, FAST):
        times = [size["ways"][way]["time_ratio"] for size in sizes]
        peaks = [size["ways"][way]["memory_ratio"] for size in sizes]
        out[way] = {
            "time_ratio_geometric_mean": math.prod(times) ** (1 / len(times)),
            "time_ratio_least": min(times),
            "memory_ratio_least": None if None in peaks else min(peaks),
        }
        texts = ["-" if value is None else f"{value:.2f}" for value in out[way].values()]
        show(way, *texts)
    return out


def main() -> None:
    """Measure, print, and write what was printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--memory", nargs=6, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.memory:
        way, size = chosen.memory[0], Size(*map(int, chosen.memory[1:]))
        sys.stdout.write(f"{held_by(lambda nodes: work_of(way, size._replace(nodes=nodes)), size.nodes)}\n")
        return
    sys.stdout.write(f"torch {torch.__version__}, {torch.get_num_threads()} threads, forward + backward, float32\n\n")
    columns = ("s", "time / fimp", "peak MB above inputs", "peak / fimp", "FLOP/s", "share of matmul")
    show("(N, degree, T, D, heads)", "way", *columns)
    show(*["---"] * 8)
    sizes = [compare(size) for size in SIZES]
    sys.stdout.write("\n")
    show("compared with", "time ratio, geometric mean", "least time ratio", "least memory ratio")
    show(*["---"] * 4)
    summary = summarise(sizes)
    sys.stdout.write("\n")
    show("(N, degree, T, D, heads)", "T", "attention alone, share of matmul", "layer", "matmul FLOP/s")
    show(*["---"] * 5)
    shares = [share(size) for size in SHARES]
    if chosen.json:
        from fimp.train.runs import write_json

        write_json(chosen.json, {**versions(), "sizes": sizes, "summary": summary, "shares": shares})


if __name__ == "__main__":
    main()

"""Messages of a foundation model on a CPU: time, peak memory, and share of the machine's matrix-multiply rate.

    python benchmarks/foundation.py [--json FILE] [--sizes N,degree,T,D,heads,hidden,layers ...]

A transformer with random weights on a random graph in which every node hears the same number of others, single
precision:

- `final`, `layer`: `FoundationMessage`, whose source stream runs once per node, and whose message stream runs in chunks
  of edges (`final`), or on the mean of the neighbours' attention once per node (`layer`);
- `final, told`, `layer, told`: the same with keys and values of the sources kept from before (`tell` once, then
  `hear`), as layer-wise inference keeps them where a node is heard in several blocks; forward alone;
- `naive`: both streams through the model's own layers for every edge, all edges at once; then the mean. It computes
  what `final` does.

Forward without gradients, and forward and backward. Ways take turns, and the least time of each counts; memory is that
of a fresh process per way (see `benchmarks/common.py`). Ratios are to `final` of the same pass. Floating-point
operations are the useful ones: a plain forward of the model per node, and for messages queries, outputs and
feed-forward network per edge (`layer`: per node) and attention per edge; backward twice as many, attention 2.5 times.
`naive` is credited with those of `final`. The rate that they are compared with is that of one large `torch.matmul`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import held_by, measure_times, peak_memory, show, text, versions
from torch import Tensor, nn

from fimp.nn import FoundationMessage
from fimp.nn.stack_config import StackConfig
from fimp.nn.transformer import TransformerStack


class Size(NamedTuple):
    """N nodes that hear ``degree`` others each, T tokens per node, and the transformer."""

    nodes: int
    degree: int
    tokens: int
    width: int
    heads: int
    hidden: int
    layers: int

    def flops(self, way: str, backward: bool) -> float:
        """Useful operations of a way, forward or with backward."""
        edges, maps, network = self.nodes * self.degree, 4 * self.width**2, 4 * self.width * self.hidden
        linear, attention = 0, edges * 4 * self.tokens**2 * self.width * self.layers
        if "told" not in way:
            # The last layer of the source stream gives keys and values alone.
            linear += self.nodes * self.tokens * (self.layers * maps + (self.layers - 1) * (maps + network))
            attention += self.nodes * 4 * self.tokens**2 * self.width * (self.layers - 1)
        streams = self.nodes if way.startswith("layer") else edges
        linear += streams * self.tokens * (maps + network) * self.layers
        return 3 * linear + 3.5 * attention if backward else linear + attention


#: Those of a small scGPT, of a ViT-Tiny on a few images, and of BrainLM-like short sequences.
SIZES = (
    Size(64, 8, 50, 128, 4, 512, 4),
    Size(16, 8, 197, 192, 3, 768, 6),
    Size(256, 8, 20, 256, 4, 1024, 4),
)
PASSES = ("forward", "forward + backward")
OURS, NAIVE = "final", "naive"
WAYS = (OURS, "final, told", "layer", "layer, told", NAIVE)


class PerEdge(nn.Module):
    """Both streams of every edge through the model's own layers."""

    def __init__(self, stack: TransformerStack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, h_dst: Tensor, h_src: Tensor, edge_index: Tensor) -> Tensor:
        """Tokens ``[N, T, D]`` to the mean of messages ``[N, T, D]``."""
        source, message = h_src[edge_index[0]], h_dst[edge_index[1]]
        for number, layer in enumerate(self.stack.layers, 1):
            key, value = layer.keys_values(source)
            message = layer.finish(message, layer.attend(layer.queries(message), key, value))
            if number < len(self.stack.layers):
                source = layer.finish(source, layer.attend(layer.queries(source), key, value))
        total = message.new_zeros(h_dst.shape).index_add(0, edge_index[1], message)
        return total / torch.bincount(edge_index[1], minlength=len(h_dst)).clamp(min=1)[:, None, None]


def graph(size: Size) -> Tensor:
    """``[2, E]``: every node hears ``degree`` random ones."""
    dst = torch.arange(size.nodes).repeat_interleave(size.degree)
    return torch.stack([torch.randint(size.nodes, dst.shape, generator=torch.Generator().manual_seed(0)), dst])


def work_of(way: str, backward: bool, size: Size) -> Callable[[], Tensor]:
    """One pass of a way over random tokens; it gives the messages ``[N, T, D]``, detached."""
    torch.manual_seed(0)
    stack = TransformerStack(StackConfig(size.width, size.heads, size.hidden, size.layers, activation="gelu")).eval()
    h, edge_index = torch.randn(size.nodes, size.tokens, size.width, requires_grad=backward), graph(size)
    grad = torch.randn(h.shape)
    if way == NAIVE:
        module: nn.Module = PerEdge(stack)
    else:
        module = FoundationMessage(stack, "final" if way.startswith("final") else "layer")
    told = None
    if way.endswith("told"):
        with torch.no_grad():
            told = module.tell(h)

    def work() -> Tensor:
        with torch.set_grad_enabled(backward):
            out = module(h, h, edge_index) if told is None else module.hear(h, told, edge_index)
        if backward:
            module.zero_grad()
            h.grad = None
            out.backward(grad)
        return out.detach()

    return work


COLUMNS = (
    ("seconds", "{:.4f}"),
    ("time_ratio", "{:.2f}"),
    ("peak_mb", "{:.0f}"),
    ("memory_ratio", "{:.2f}"),
    ("flops_per_second", "{:.3g}"),
    ("share_of_matmul", "{:.0%}"),
    ("difference", "{:.0e}"),
)


def compare(size: Size, which: str) -> dict[str, Any]:
    """Measure all ways at a size and print how they compare with ours."""
    backward = which != PASSES[0]
    ways = [way for way in WAYS if not (backward and way.endswith("told"))]
    works = {way: work_of(way, backward, size) for way in ways}
    seconds, rate = measure_times(works)
    memory = {way: peak_memory(__file__, way, int(backward), *size) for way in ways}
    rows = {}
    for way, least in seconds.items():
        peak, ours, achieved = memory[way], memory[OURS], size.flops(way, backward) / least
        row: dict[str, Any] = {"seconds": least, "time_ratio": least / seconds[OURS], "peak_mb": peak}
        row |= {"memory_ratio": peak / ours if peak and ours else None}
        row |= {"flops_per_second": achieved, "share_of_matmul": achieved / rate}
        same = OURS if not way.startswith("layer") else "layer"
        row["difference"] = float((works[way]() - works[same]()).abs().max()) if way != same else None
        rows[way] = row
        show(tuple(size), which, way, *(text(row, *column) for column in COLUMNS))
    return {**size._asdict(), "pass": which, "matmul_flops_per_second": rate, "ways": rows}


def main() -> None:
    """Measure, print, and write what was printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--sizes", nargs="+", help="N,degree,T,D,heads,hidden,layers each")
    parser.add_argument("--memory", nargs=9, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.memory:
        way, backward, *numbers = chosen.memory
        size = Size(*map(int, numbers))
        peak = held_by(lambda nodes: work_of(way, backward == "1", size._replace(nodes=nodes)), size.nodes)
        sys.stdout.write(f"{peak}\n")
        return
    sizes = SIZES if chosen.sizes is None else [Size(*map(int, one.split(","))) for one in chosen.sizes]
    sys.stdout.write(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32\n\n")
    columns = ("s", "time / final", "peak MB above inputs", "peak / final", "FLOP/s", "share of matmul", "difference")
    show("(N, degree, T, D, heads, hidden, layers)", "pass", "way", *columns)
    show(*["---"] * 10)
    found = [compare(size, which) for size in sizes for which in PASSES]
    if chosen.json:
        from fimp.train.runs import write_json

        write_json(chosen.json, {**versions(), "sizes": found})


if __name__ == "__main__":
    main()

"""Edge attention on a GPU: rate, time and memory of the Triton backend against gather + SDPA + index_add.

    python benchmarks/gpu_edge_attention.py [--json FILE] [--nodes 2048] [--repeats 20]

For head sizes 64 and 128, 16 to 1024 tokens per node, 512 channels, degree 8 and bfloat16, prints of the forward and of
the backward pass

- TFLOP/s: 4 * T * S * d operations per edge and head forward, and 2.5 times as many backward;
- its share of the chip's dense bfloat16 peak (``--peak``, taken from the chip's name by default) and of what memory
  allows besides, ``min(peak, bandwidth * T)``: keys and values of every edge read once; backward ``1.25 * T``, since
  queries and gradients of every edge are read too;
- forward and backward against gathering queries, keys and values per edge, torch's scaled_dot_product_attention and an
  index_add: ratio of times, and of the memory allocated beyond inputs and their copies.

Both are measured alternately in one process; times are medians. Sources are drawn near their destination, as in a
graph whose nodes are numbered by place. The first lines take longest: that is when block sizes are chosen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from fimp.ops import edge_attention

HEAD_SIZES, TOKENS, CHANNELS, DEGREE = (64, 128), (16, 32, 64, 256, 1024), 512, 8
#: Dense bfloat16 TFLOP/s and TB/s of memory by what the chip's name holds.
CHIPS = {"H200": (989.0, 4.8), "H100 PCIe": (756.0, 2.0), "H100": (989.0, 3.35), "A100": (312.0, 2.0)}
TITLE = "  d     T   forward TFLOP/s (peak, bound)   backward TFLOP/s (peak, bound)   time ratio   memory ratio"
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def fused(query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor) -> Tensor:
    """The Triton backend."""
    return edge_attention(query, key, value, edge_index, backend="triton")


def gathered(query: Tensor, key: Tensor, value: Tensor, edge_index: Tensor) -> Tensor:
    """Attention of all edges at once with torch's own kernels."""
    src, dst = edge_index
    message = F.scaled_dot_product_attention(query[dst], key[src], value[src])
    return torch.zeros_like(query).index_add(0, dst, message) / DEGREE


def graph(nodes: int) -> Tensor:
    """``[2, nodes * DEGREE]``: every node hears nodes numbered within 32 of it."""
    generator = torch.Generator().manual_seed(0)
    dst = torch.arange(nodes).repeat_interleave(DEGREE)
    src = (dst + torch.randint(-32, 33, dst.shape, generator=generator)) % nodes
    return torch.stack([src, dst]).cuda()


def passes(attention: Attention, inputs: list[Tensor], edge_index: Tensor) -> tuple[float, float]:
    """Milliseconds of one forward and one backward pass."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
    marks[0].record()
    out = attention(*inputs, edge_index)
    marks[1].record()
    torch.autograd.grad(out, inputs, torch.ones_like(out))
    marks[2].record()
    torch.cuda.synchronize()
    return marks[0].elapsed_time(marks[1]), marks[1].elapsed_time(marks[2])


def memory(attention: Attention, inputs: list[Tensor], edge_index: Tensor) -> int:
    """Bytes that a forward and backward pass allocate at most, beyond the inputs."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    passes(attention, inputs, edge_index)
    return torch.cuda.max_memory_allocated() - before


def measure(size: int, tokens: int, nodes: int, repeats: int, peak: float, bandwidth: float) -> dict[str, float]:
    """One row of the table."""
    heads = CHANNELS // size
    # As projections leave them: heads beside each other in the channels of a token.
    inputs = [
        torch.randn(nodes, tokens, heads, size, device="cuda", dtype=torch.bfloat16).transpose(1, 2).requires_grad_()
        for _ in range(3)
    ]
    edge_index = graph(nodes)
    times: dict[str, list[tuple[float, float]]] = {"fused": [], "gathered": []}
    ways: list[tuple[str, Attention]] = [("fused", fused), ("gathered", gathered)]
    for _, way in ways:  # block sizes are chosen and memory pools filled here
        for _ in range(3):
            passes(way, inputs, edge_index)
    used = {name: memory(way, inputs, edge_index) for name, way in ways}
    for _ in range(repeats):
        for name, way in ways:
            times[name].append(passes(way, inputs, edge_index))
    (forward, backward), (slow, slow_back) = (
        tuple(statistics.median(part) for part in zip(*times[name], strict=True)) for name, _ in ways
    )
    work = 4.0 * nodes * DEGREE * heads * tokens**2 * size
    # Keys and values of an edge are 4 * T * d bytes per head, so that every byte is worth T operations.
    bound, bound_back = min(peak, bandwidth * tokens), min(peak, 1.25 * bandwidth * tokens)
    rate, rate_back = work / forward / 1e9, 2.5 * work / backward / 1e9
    return {
        "head_size": size,
        "tokens": tokens,
        "nodes": nodes,
        "forward_ms": forward,
        "backward_ms": backward,
        "forward_tflops": rate,
        "backward_tflops": rate_back,
        "forward_share_of_peak": rate / peak,
        "backward_share_of_peak": rate_back / peak,
        "forward_share_of_bound": rate / bound,
        "backward_share_of_bound": rate_back / bound_back,
        "time_ratio": (slow + slow_back) / (forward + backward),
        "memory_ratio": used["fused"] / used["gathered"],
    }


def line(row: dict[str, float]) -> str:
    """A row as printed under :data:`TITLE`."""
    parts = [f"{row['head_size']:3d} {row['tokens']:5d}"]
    parts += [
        f"{row[f'{name}_tflops']:8.1f} ({row[f'{name}_share_of_peak']:6.1%}, {row[f'{name}_share_of_bound']:6.1%})"
        for name in ("forward", "backward")
    ]
    return "   ".join([*parts, f"{row['time_ratio']:10.2f}   {row['memory_ratio']:12.3f}\n"])


def rates(peak: float | None, bandwidth: float | None) -> tuple[float, float]:
    """Peak and bandwidth as given, or else by the chip's name; 0 if that is not known."""
    name = torch.cuda.get_device_name()
    known = next((numbers for part, numbers in CHIPS.items() if part in name), (0.0, 0.0))
    return peak or known[0], bandwidth or known[1]


def main() -> int:
    """Print the table; 2 if it cannot be measured here."""
    parser = argparse.ArgumentParser(description="Edge attention on a GPU against gather + SDPA + index_add.")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--nodes", type=int, default=2048, help="nodes at 256 tokens; tokens in all stay the same")
    parser.add_argument("--repeats", type=int, default=20, help="timed runs of each")
    parser.add_argument("--peak", type=float, help="dense bfloat16 TFLOP/s of the chip")
    parser.add_argument("--bandwidth", type=float, help="memory bandwidth of the chip in TB/s")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write(
            "gpu_edge_attention: found no GPU, wanted one that torch.cuda sees; run it on such a machine\n"
        )
        return 2
    chip, (peak, bandwidth) = torch.cuda.get_device_name(), rates(arguments.peak, arguments.bandwidth)
    if not (peak and bandwidth):
        sys.stderr.write(f"gpu_edge_attention: rates of {chip!r} are unknown; pass --peak and --bandwidth\n")
        return 2
    sys.stdout.write(f"{chip}: {peak:g} TFLOP/s, {bandwidth:g} TB/s; torch {torch.__version__}\n{TITLE}\n")
    rows = []
    for size in HEAD_SIZES:
        for tokens in TOKENS:
            nodes = max(128, arguments.nodes * 256 // tokens)
            rows.append(measure(size, tokens, nodes, arguments.repeats, peak, bandwidth))
            sys.stdout.write(line(rows[-1]))
            sys.stdout.flush()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"device": chip, "peak": peak, "bandwidth": bandwidth, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

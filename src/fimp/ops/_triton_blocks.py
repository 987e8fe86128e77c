"""Block sizes of the Triton kernels of edge attention: which are tried on a GPU, and which the interpreter takes."""

from __future__ import annotations

from itertools import product
from typing import Any

import triton

#: Bytes of keys and values up to which the backward pass takes a source as one block: two of them, one in use and
#: one on its way, and the queries then fit into the shared memory of one multiprocessor (227 KiB on an H100).
_SINGLE_BYTES = 64 * 2**10
_SHARED_BYTES = 200 * 2**10
#: Numbers of the largest tile that a thread holds, or twice as many: there are up to five such tiles and 255 registers.
_PER_THREAD = 32
#: The least that a matrix product takes.
_LEAST = 16


def bucket(count: int) -> int:
    """Next power of two, at least 16: sizes of one bucket share their block sizes."""
    return max(_LEAST, triton.next_power_of_2(count))


def fits_one_block(sources: int, width: int, value_width: int, itemsize: int) -> bool:
    """Whether the backward pass takes the tokens of a source as one block."""
    size = bucket(sources)
    return size <= 256 and size * (bucket(width) + bucket(value_width)) * itemsize <= _SINGLE_BYTES


def fixed(tokens: int, sources: int) -> tuple[int, int]:
    """Queries and keys per block where nothing can be timed."""
    return min(64, bucket(tokens)), min(64, bucket(sources))


def configs() -> list[triton.Config]:
    """Everything that may be tried; :func:`of_queries` and :func:`of_sources` choose by shape."""
    sizes = product((16, 32, 64, 128), (16, 32, 64, 128, 256), (1, 2, 4, 8), (2, 3, 4))
    every = {(m, n, w, s) for m, n, w, s in sizes} | {(n, m, w, s) for m, n, w, s in sizes}
    return [
        triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
        for m, n, warps, stages in sorted(every)
    ]


def of_queries(choices: list[triton.Config], named: dict[str, Any], **given: Any) -> list[triton.Config]:
    """Choices for a kernel that holds queries and walks over keys."""
    given = named | given
    single = bool(given.get("FIND_WORTH") and given.get("ADD_GRAD"))
    return _choose(choices, given, ("BLOCK_M", given["T_BUCKET"]), ("BLOCK_N", given["S_BUCKET"]), single)


def of_sources(choices: list[triton.Config], named: dict[str, Any], **given: Any) -> list[triton.Config]:
    """Choices for a kernel that holds keys and walks over queries."""
    given = named | given
    return _choose(choices, given, ("BLOCK_N", given["S_BUCKET"]), ("BLOCK_M", given["T_BUCKET"]), False)


def _choose(
    choices: list[triton.Config], given: dict[str, Any], held: tuple[str, int], walked: tuple[str, int], single: bool
) -> list[triton.Config]:
    """About a dozen choices; compiling each takes seconds."""
    width = given["BLOCK_D"] + given["BLOCK_DV"]
    token_bytes = width * given["query"].element_size()
    widest = max(given["BLOCK_D"], given["BLOCK_DV"])

    def fits(choice: triton.Config) -> bool:
        own, other = choice.kwargs[held[0]], choice.kwargs[walked[0]]
        if own > held[1] or other > walked[1] or (single and other != walked[1]) or (not single and other > 128):
            return False
        if (own + choice.num_stages * other) * token_bytes > _SHARED_BYTES:
            return False
        most = min(8, max(1, own * max(other, widest) // (32 * _PER_THREAD)))
        # Four warps multiply 64 rows together on Hopper, fewer fall back to slower instructions.
        least = max(most // 2, 4) if own >= 64 else most // 2
        return least <= choice.num_warps <= most and choice.num_stages <= (3 if other > 32 else 4)

    left = [choice for choice in choices if fits(choice)]
    most = {name: max(choice.kwargs[name] for choice in left) for name, _ in (held, walked)}
    # Small blocks only where larger ones do not exist or do not fit.
    return [choice for choice in left if all(choice.kwargs[name] >= min(64, most[name]) for name in most)]

"""Block sizes of the Triton kernels of edge attention: which are tried on a GPU, and which the interpreter takes.

Registers, spills and shared memory of the choices were looked at by compiling the kernels for compute capability 9.0.
"""

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
#: The least that a matrix product takes; the most of which registers hold the scores, with tensor cores and without.
_LEAST, _MOST, _MOST_EXACT = 16, 128, 32


def bucket(count: int) -> int:
    """Next power of two, at least 16: sizes of one bucket share their block sizes."""
    return max(_LEAST, int(triton.next_power_of_2(count)))


def fixed(tokens: int, sources: int) -> tuple[int, int]:
    """Queries and keys per block where nothing can be timed."""
    return min(64, bucket(tokens)), min(64, bucket(sources))


def in_one_block(given: dict[str, Any]) -> bool:
    """Whether the backward pass takes the tokens of a source as one block, from the arguments of its kernels."""
    size = given["S_BUCKET"]
    return bool(size <= _most(given) and size * _token_bytes(given) <= _SINGLE_BYTES)


def configs() -> list[triton.Config]:
    """Everything that may be tried; :func:`of_queries` and :func:`of_sources` choose by shape."""
    sizes = (16, 32, 64, 128)
    return [
        triton.Config({"BLOCK_M": m, "BLOCK_N": n}, num_warps=warps, num_stages=stages)
        for m, n, warps, stages in product(sizes, sizes, (1, 2, 4, 8), (2, 3, 4))
    ]


def of_queries(choices: list[triton.Config], named: dict[str, Any], **given: Any) -> list[triton.Config]:
    """Choices for a kernel that holds queries and walks over keys."""
    given = named | given
    whole = bool(given.get("FIND_WORTH") and given.get("ADD_GRAD"))
    return _choose(choices, given, ("BLOCK_M", given["T_BUCKET"]), ("BLOCK_N", given["S_BUCKET"]), whole)


def of_sources(choices: list[triton.Config], named: dict[str, Any], **given: Any) -> list[triton.Config]:
    """Choices for a kernel that holds keys and walks over queries."""
    given = named | given
    return _choose(choices, given, ("BLOCK_N", given["S_BUCKET"]), ("BLOCK_M", given["T_BUCKET"]), False)


def _exact(given: dict[str, Any]) -> bool:
    """Whether products are computed without tensor cores."""
    size = given["query"].element_size()
    return bool(size == 8 or (size == 4 and given["PRECISION"] == "ieee"))


def _most(given: dict[str, Any]) -> int:
    """Tokens of the largest block."""
    return _MOST_EXACT if _exact(given) else _MOST


def _token_bytes(given: dict[str, Any]) -> int:
    """Bytes of a token's key and value, or of its query and the gradient of its output."""
    return int((given["BLOCK_D"] + given["BLOCK_DV"]) * given["query"].element_size())


def _choose(
    choices: list[triton.Config], given: dict[str, Any], held: tuple[str, int], walked: tuple[str, int], whole: bool
) -> list[triton.Config]:
    """About a dozen choices at most, since compiling each takes seconds; with ``whole``, all of ``walked`` at once."""
    widest = max(given["BLOCK_D"], given["BLOCK_DV"])
    limit = _most(given)
    per_thread = _PER_THREAD // 4 if _exact(given) else _PER_THREAD

    def fits(choice: triton.Config) -> bool:
        own, other = choice.kwargs[held[0]], choice.kwargs[walked[0]]
        if own > min(held[1], limit) or (other != walked[1] if whole else other > min(walked[1], limit)):
            return False
        if (own + choice.num_stages * other) * _token_bytes(given) > _SHARED_BYTES:
            return False
        # Four warps multiply 64 rows together on Hopper, fewer fall back to slower instructions.
        fewest = 4 if own >= 64 else 1
        wanted = own * max(other, widest) // (32 * per_thread)
        least, most = (min(8, max(fewest, warps)) for warps in (wanted // 2, wanted))
        return least <= choice.num_warps <= most and choice.num_stages <= (3 if other > 32 else 4)

    left = [choice for choice in choices if fits(choice)]
    # Small blocks only where larger ones do not exist or do not fit.
    for name, _ in (held, walked):
        largest = max(choice.kwargs[name] for choice in left)
        left = [choice for choice in left if choice.kwargs[name] >= min(64, largest)]
    return left

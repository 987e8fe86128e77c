"""Triton kernel of the forward pass of edge attention, and the pieces that it shares with the backward pass.

A program belongs to one destination, head and block of queries. It walks over the in-edges of its node, and over the
key blocks of each source, in one flat loop: that is what lets the compiler fetch the keys and values of the next edge
while it still computes on this one. Its own tokens are read once and its sum is written once; nothing is
scattered, so that no atomics are needed and results do not depend on the order in which programs run.

Heads change slowest over programs and query blocks fastest: programs that run together then share the keys and values
of one source, or of neighbouring destinations' common sources, in the cache.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from fimp.ops import _triton_blocks

#: Whether kernels run in Triton's interpreter. That is settled for them now, and was for Triton's own functions when
#: it was first imported.
INTERPRETED = bool(triton.knobs.runtime.interpret) and not isinstance(tl.sum, triton.JITFunction)
#: Whether this Triton multiplies matrices in double precision.
HAS_DOUBLE = tuple(map(int, triton.__version__.split(".")[:2])) >= (3, 6)
#: The interpreter holds bfloat16 as integers and multiplies them as such.
_UPCAST = tl.constexpr(INTERPRETED)
#: Score of a token that must not be attended to. Finite, so that a source without any real token gives no NaN.
_HIDDEN = tl.constexpr(-1e30)
#: Scores are kept in units of log 2, since a GPU computes powers of two.
_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def place(nodes, tokens, BLOCK: tl.constexpr):
    """First token, node and head of this program."""
    blocks = tl.cdiv(tokens, BLOCK)
    program = tl.program_id(0)
    first = (program % blocks) * BLOCK
    return first, ((program // blocks) % nodes).to(tl.int64), program // (blocks * nodes)


@triton.jit
def edge_of(other, edge, begin, count, blocks, step):
    """Node at the other end and number of the edge that a step works on; zeros after the last step.

    Asked one step ahead: an address that has to be read first would stop the compiler from fetching tiles ahead.
    """
    there = step < count * blocks
    at = begin + step // blocks
    node, number = tl.load(other + at, mask=there, other=0), tl.load(edge + at, mask=there, other=0)
    return node.to(tl.int64), number.to(tl.int64)


@triton.jit
def load_tile(start, stride, row, there, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, ALL: tl.constexpr):
    """Tokens ``row`` of one node and head, ``[ROWS, COLUMNS]``; zero where not ``there``, which is not read.

    ``ALL`` says that every one is there. What masked tokens hold, be it NaN, thus never enters a product.
    """
    column = tl.arange(0, COLUMNS)
    at = start + row[:, None] * stride + column[None, :]
    if ALL and WIDTH == COLUMNS:
        return tl.load(at)
    return tl.load(at, mask=there[:, None] & (column < WIDTH)[None, :], other=0.0)


@triton.jit
def store_tile(start, stride, row, count, tile, WIDTH: tl.constexpr, COLUMNS: tl.constexpr):
    """Counterpart of :func:`load_tile` for tokens below ``count``."""
    column = tl.arange(0, COLUMNS)
    at = start + row[:, None] * stride + column[None, :]
    tl.store(at, tile.to(start.dtype.element_ty), mask=(row < count)[:, None] & (column < WIDTH)[None, :])


@triton.jit
def multiply(left, right, total, PRECISION: tl.constexpr):
    """``total + left @ right``, summed in the type of ``total``."""
    if _UPCAST:
        left, right = left.to(total.dtype), right.to(total.dtype)
    return tl.dot(left, right, total, input_precision=PRECISION, out_dtype=total.dtype)


@triton.jit
def visible(mask, node, token, tokens, HAS_MASK: tl.constexpr):
    """Which tokens of a source are there and real."""
    seen = token < tokens
    if HAS_MASK:
        seen = seen & (tl.load(mask + node * tokens + token, mask=seen, other=0) != 0)
    return seen


@triton.jit
def scores(left, right, seen, SCALE: tl.constexpr, PRECISION: tl.constexpr, ALL: tl.constexpr, like):
    """Scores of tokens ``left`` with tokens ``right`` over log 2; ``_HIDDEN`` where not ``seen`` (it broadcasts)."""
    product = multiply(left, tl.trans(right), tl.zeros([left.shape[0], right.shape[0]], like), PRECISION)
    product = product * (SCALE * _LOG2_E)
    if ALL:
        return product
    return tl.where(seen, product, _HIDDEN)


@triton.jit
def kept(seed, edge, head, heads, row, column, rows, columns, DROPOUT: tl.constexpr):
    """Factor of attention weights, zero or ``1 / (1 - DROPOUT)``: drawn from their position, whatever the blocks."""
    at = ((edge * heads + head) * rows + row) * columns + column
    return tl.where(tl.rand(seed, at) >= DROPOUT, 1.0 / (1.0 - DROPOUT), 0.0)


@triton.autotune(
    configs=_triton_blocks.configs(),
    key=["T_BUCKET", "S_BUCKET", "D", "DV", "PRECISION"],
    prune_configs_by={"early_config_prune": _triton_blocks.of_queries},
)
@triton.heuristics(
    {
        "EVEN_T": lambda given: given["tokens"] % given["BLOCK_M"] == 0,
        "EVEN_S": lambda given: given["sources"] % given["BLOCK_N"] == 0,
        "SINGLE": lambda given: given["sources"] <= given["BLOCK_N"],
    }
)
@triton.jit(do_not_specialize=["seed"])
def forward(
    query,
    key,
    value,
    out,
    start,
    other,
    edge,
    share,
    mask,
    log_sum,
    q_node,
    q_head,
    q_token,
    k_node,
    k_head,
    k_token,
    v_node,
    v_head,
    v_token,
    o_node,
    o_head,
    o_token,
    nodes,
    heads,
    tokens,
    sources,
    seed,
    D: tl.constexpr,
    DV: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_DV: tl.constexpr,
    T_BUCKET: tl.constexpr,
    S_BUCKET: tl.constexpr,
    SCALE: tl.constexpr,
    DROPOUT: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_MASK: tl.constexpr,
    KEEP: tl.constexpr,
    EVEN_T: tl.constexpr,
    EVEN_S: tl.constexpr,
    SINGLE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Write the sum of messages of each destination, and with ``KEEP`` the log-sum-exp of each edge, head and query.

    ``start``, ``other`` and ``edge`` list in-edges by destination: where its list starts, source and edge number.
    """
    like: tl.constexpr = share.dtype.element_ty
    all_seen: tl.constexpr = EVEN_S and not HAS_MASK
    first, node, head = place(nodes, tokens, BLOCK_M)
    row = first + tl.arange(0, BLOCK_M)
    q = load_tile(query + node * q_node + head * q_head, q_token, row, row < tokens, D, BLOCK_D, EVEN_T)
    begin = tl.load(start + node)
    count = tl.load(start + node + 1) - begin
    blocks = 1 if SINGLE else tl.cdiv(sources, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_DV], like)
    message = tl.zeros([BLOCK_M, BLOCK_DV], like)
    top = tl.full([BLOCK_M], float("-inf"), like)
    mass = tl.zeros([BLOCK_M], like)
    next_source, next_number = edge_of(other, edge, begin, count, blocks, 0)
    for step in range(0, count * blocks):
        source, number = next_source, next_number
        next_source, next_number = edge_of(other, edge, begin, count, blocks, step + 1)
        weight = tl.load(share + number)
        block = step % blocks
        token = block * BLOCK_N + tl.arange(0, BLOCK_N)
        seen = visible(mask, source, token, sources, HAS_MASK)
        k = load_tile(key + source * k_node + head * k_head, k_token, token, seen, D, BLOCK_D, all_seen)
        v = load_tile(value + source * v_node + head * v_head, v_token, token, seen, DV, BLOCK_DV, all_seen)
        score = scores(q, k, seen[None, :], SCALE, PRECISION, all_seen, like)
        if SINGLE:
            top = tl.max(score, 1)
        else:
            # The softmax starts anew with every edge; 2 ** (-inf - x) = 0 then forgets what the last edge left.
            before = tl.where(block == 0, float("-inf"), top)
            top = tl.maximum(before, tl.max(score, 1))
        attention = tl.exp2(score - top[:, None])
        here = tl.sum(attention, 1)
        if DROPOUT > 0.0:
            attention *= kept(seed, number, head, heads, row[:, None], token[None, :], tokens, sources, DROPOUT)
        if SINGLE:
            mass = here
            attention *= (weight / mass)[:, None]
            total = multiply(attention.to(v.dtype), v, total, PRECISION)
        else:
            fade = tl.exp2(before - top)
            mass = mass * fade + here
            message = multiply(attention.to(v.dtype), v, message * fade[:, None], PRECISION)
        if block == blocks - 1:
            if not SINGLE:
                total += message * (weight / mass)[:, None]
            if KEEP:
                tl.store(log_sum + (number * heads + head) * tokens + row, top + tl.log2(mass), mask=row < tokens)
    store_tile(out + node * o_node + head * o_head, o_token, row, tokens, total, DV, BLOCK_DV)

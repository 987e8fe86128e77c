"""Triton kernels of the backward pass of edge attention, by destination for queries, by source for keys and values.

Neither adds to what another program writes, so that there are no atomics and the result is the same every time.

The softmax backward subtracts from every score's gradient their mean under the attention, per edge, head and query
(``worth``, ``[E, H, T]``). What FlashAttention uses for it, the product of output and its gradient, is no help here:
the output sums over edges. So it is found from the scores: while computing the queries' gradient where a source fits
one block, and in a pass of its own otherwise. Summed over heads and queries it is the gradient of the edge's weight.
"""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from fimp.ops import _triton_blocks
from fimp.ops._triton_kernels import edge_of, kept, load_tile, multiply, place, scores, store_tile, visible


@triton.autotune(
    configs=_triton_blocks.configs(),
    key=["T_BUCKET", "S_BUCKET", "D", "DV", "PRECISION", "FIND_WORTH", "ADD_GRAD"],
    prune_configs_by={"early_config_prune": _triton_blocks.of_queries},
)
@triton.heuristics(
    {
        "EVEN_T": lambda given: given["tokens"] % given["BLOCK_M"] == 0,
        "EVEN_S": lambda given: given["sources"] % given["BLOCK_N"] == 0,
    }
)
@triton.jit(do_not_specialize=["seed"])
def query_gradient(
    query,
    key,
    value,
    grad_out,
    grad,
    start,
    other,
    edge,
    share,
    mask,
    log_sum,
    worth,
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
    g_node,
    g_head,
    g_token,
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
    FIND_WORTH: tl.constexpr,
    ADD_GRAD: tl.constexpr,
    EVEN_T: tl.constexpr,
    EVEN_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Write ``worth`` of each edge (``FIND_WORTH``), the gradient of each query (``ADD_GRAD``), or both.

    Both at once need ``sources <= BLOCK_N``. Lists are those of :func:`fimp.ops._triton_kernels.forward`.
    """
    like: tl.constexpr = share.dtype.element_ty
    all_seen: tl.constexpr = EVEN_S and not HAS_MASK
    first, node, head = place(nodes, tokens, BLOCK_M)
    row = first + tl.arange(0, BLOCK_M)
    there = row < tokens
    q = load_tile(query + node * q_node + head * q_head, q_token, row, there, D, BLOCK_D, EVEN_T)
    g = load_tile(grad_out + node * o_node + head * o_head, o_token, row, there, DV, BLOCK_DV, EVEN_T)
    begin = tl.load(start + node)
    count = tl.load(start + node + 1) - begin
    blocks = 1 if FIND_WORTH and ADD_GRAD else tl.cdiv(sources, BLOCK_N)
    total = tl.zeros([BLOCK_M, BLOCK_D], like)
    mean = tl.zeros([BLOCK_M], like)
    next_source, next_number = edge_of(other, edge, begin, count, blocks, 0)
    for step in range(0, count * blocks):
        source, number = next_source, next_number
        next_source, next_number = edge_of(other, edge, begin, count, blocks, step + 1)
        block = step % blocks
        token = block * BLOCK_N + tl.arange(0, BLOCK_N)
        seen = visible(mask, source, token, sources, HAS_MASK)
        k = load_tile(key + source * k_node + head * k_head, k_token, token, seen, D, BLOCK_D, all_seen)
        v = load_tile(value + source * v_node + head * v_head, v_token, token, seen, DV, BLOCK_DV, all_seen)
        of_rows = (number * heads + head) * tokens + row
        level = tl.load(log_sum + of_rows, mask=there, other=0.0)
        score = scores(q, k, seen[None, :], SCALE, PRECISION, all_seen, like)
        attention = tl.exp2(score - level[:, None])
        gain = multiply(g, tl.trans(v), tl.zeros([BLOCK_M, BLOCK_N], like), PRECISION)
        if DROPOUT > 0.0:
            gain *= kept(seed, number, head, heads, row[:, None], token[None, :], tokens, sources, DROPOUT)
        if FIND_WORTH:
            mean = tl.where(block == 0, 0.0, mean) + tl.sum(attention * gain, 1)
            if block == blocks - 1:
                tl.store(worth + of_rows, mean, mask=there)
        else:
            mean = tl.load(worth + of_rows, mask=there, other=0.0)
        if ADD_GRAD:
            weight = tl.load(share + number)
            slope = attention * (gain - mean[:, None]) * weight
            total = multiply(slope.to(k.dtype), k, total, PRECISION)
    if ADD_GRAD:
        store_tile(grad + node * g_node + head * g_head, g_token, row, tokens, total * SCALE, D, BLOCK_D)


@triton.autotune(
    configs=_triton_blocks.configs(),
    key=["T_BUCKET", "S_BUCKET", "D", "DV", "PRECISION"],
    prune_configs_by={"early_config_prune": _triton_blocks.of_sources},
)
@triton.heuristics(
    {
        "EVEN_T": lambda given: given["tokens"] % given["BLOCK_M"] == 0,
        "EVEN_S": lambda given: given["sources"] % given["BLOCK_N"] == 0,
    }
)
@triton.jit(do_not_specialize=["seed"])
def source_gradient(
    query,
    key,
    value,
    grad_out,
    grad_key,
    grad_value,
    start,
    other,
    edge,
    share,
    mask,
    log_sum,
    worth,
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
    gk_node,
    gk_head,
    gk_token,
    gv_node,
    gv_head,
    gv_token,
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
    EVEN_T: tl.constexpr,
    EVEN_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Write the gradients of each source's keys and values; lists are of out-edges, ``nodes`` are sources.

    Scores stand with keys in rows here, so that neither of the products that add up has to be transposed.
    """
    like: tl.constexpr = share.dtype.element_ty
    all_seen: tl.constexpr = EVEN_S and not HAS_MASK
    first, node, head = place(nodes, sources, BLOCK_N)
    token = first + tl.arange(0, BLOCK_N)
    seen = visible(mask, node, token, sources, HAS_MASK)
    k = load_tile(key + node * k_node + head * k_head, k_token, token, seen, D, BLOCK_D, all_seen)
    v = load_tile(value + node * v_node + head * v_head, v_token, token, seen, DV, BLOCK_DV, all_seen)
    begin = tl.load(start + node)
    count = tl.load(start + node + 1) - begin
    blocks = tl.maximum(tl.cdiv(tokens, BLOCK_M), 1)
    to_key = tl.zeros([BLOCK_N, BLOCK_D], like)
    to_value = tl.zeros([BLOCK_N, BLOCK_DV], like)
    next_dst, next_number = edge_of(other, edge, begin, count, blocks, 0)
    for step in range(0, count * blocks):
        dst, number = next_dst, next_number
        next_dst, next_number = edge_of(other, edge, begin, count, blocks, step + 1)
        weight = tl.load(share + number)
        row = (step % blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
        there = row < tokens
        q = load_tile(query + dst * q_node + head * q_head, q_token, row, there, D, BLOCK_D, EVEN_T)
        g = load_tile(grad_out + dst * o_node + head * o_head, o_token, row, there, DV, BLOCK_DV, EVEN_T)
        of_rows = (number * heads + head) * tokens + row
        level = tl.load(log_sum + of_rows, mask=there, other=0.0)
        mean = tl.load(worth + of_rows, mask=there, other=0.0)
        # Keys beyond the last need not be hidden here: what is summed over are queries.
        score = scores(k, q, seen[:, None], SCALE, PRECISION, not HAS_MASK, like)
        attention = tl.exp2(score - level[None, :]) * weight
        gain = multiply(v, tl.trans(g), tl.zeros([BLOCK_N, BLOCK_M], like), PRECISION)
        if DROPOUT > 0.0:
            keep = kept(seed, number, head, heads, row[None, :], token[:, None], tokens, sources, DROPOUT)
            gain *= keep
            to_value = multiply((attention * keep).to(g.dtype), g, to_value, PRECISION)
        else:
            to_value = multiply(attention.to(g.dtype), g, to_value, PRECISION)
        slope = attention * (gain - mean[None, :])
        to_key = multiply(slope.to(q.dtype), q, to_key, PRECISION)
    store_tile(grad_key + node * gk_node + head * gk_head, gk_token, token, sources, to_key * SCALE, D, BLOCK_D)
    store_tile(grad_value + node * gv_node + head * gv_head, gv_token, token, sources, to_value, DV, BLOCK_DV)

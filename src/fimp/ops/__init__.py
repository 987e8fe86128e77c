"""Operations: cross-node attention over edges, and sums of other messages over them."""

from fimp.ops.attention import check_edges, edge_attention, edge_attention_weights, message_weight, safe_reciprocal
from fimp.ops.edge_sum import edge_sum

__all__ = [
    "check_edges",
    "edge_attention",
    "edge_attention_weights",
    "edge_sum",
    "message_weight",
    "safe_reciprocal",
]

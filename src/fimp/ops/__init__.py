"""Operations: cross-node attention over edges."""

from fimp.ops.attention import edge_attention, edge_attention_weights, message_weight

__all__ = ["edge_attention", "edge_attention_weights", "message_weight"]

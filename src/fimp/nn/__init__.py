"""Layers over node tokens ``[N, T, D]``."""

from fimp.nn.cross_attention import CrossNodeAttention, MessageCreator
from fimp.nn.fimp_conv import FIMPConv, add_missing_self_loops
from fimp.nn.layers import FeedForward, FIMPLayer, SelfAttentionLayer
from fimp.nn.readout import mean_tokens

__all__ = [
    "CrossNodeAttention",
    "FIMPConv",
    "FIMPLayer",
    "FeedForward",
    "MessageCreator",
    "SelfAttentionLayer",
    "add_missing_self_loops",
    "mean_tokens",
]

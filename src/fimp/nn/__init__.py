"""Layers over node tokens ``[N, T, D]``."""

from fimp.nn.cross_attention import CrossNodeAttention, MessageCreator
from fimp.nn.fimp_conv import FIMPConv, add_missing_self_loops
from fimp.nn.foundation_message import FoundationMessage
from fimp.nn.layers import FeatureDropout, FeedForward, FIMPLayer, OwnAttention
from fimp.nn.readout import mean_tokens
from fimp.nn.stack_config import StackConfig
from fimp.nn.transformer import TransformerStack
from fimp.nn.transformer_layer import TransformerLayer

__all__ = [
    "CrossNodeAttention",
    "FIMPConv",
    "FIMPLayer",
    "FeatureDropout",
    "FeedForward",
    "FoundationMessage",
    "MessageCreator",
    "OwnAttention",
    "StackConfig",
    "TransformerLayer",
    "TransformerStack",
    "add_missing_self_loops",
    "mean_tokens",
]

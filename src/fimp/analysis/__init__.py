"""Attention maps, figures and tables."""

from fimp.analysis.attention import gene_attention, token_attention
from fimp.analysis.figures import comparison_figure
from fimp.analysis.stream import EdgeChoice
from fimp.analysis.token_attention import TokenAttention

__all__ = ["EdgeChoice", "TokenAttention", "comparison_figure", "gene_attention", "token_attention"]

"""Attention maps, figures and tables."""

from fimp.analysis.attention import GeneAttention, gene_attention
from fimp.analysis.figures import comparison_figure

__all__ = ["GeneAttention", "comparison_figure", "gene_attention"]

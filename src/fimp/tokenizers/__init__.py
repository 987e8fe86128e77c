"""Tokenizers: raw node content to ``Tokens(h [N, T, D], mask [N, T])``."""

from fimp.tokenizers.base import Tokens
from fimp.tokenizers.cell import CellEncoder
from fimp.tokenizers.feature import FeatureEncoder, FeatureTokenizer
from fimp.tokenizers.gene import CellToken, GeneTokenizer
from fimp.tokenizers.grouped import DenseFeatures, GroupedEncoder, GroupedTokenizer
from fimp.tokenizers.profile import GeneProfile
from fimp.tokenizers.window import WindowEncoder, WindowTokenizer

__all__ = [
    "CellEncoder",
    "CellToken",
    "DenseFeatures",
    "FeatureEncoder",
    "FeatureTokenizer",
    "GeneProfile",
    "GeneTokenizer",
    "GroupedEncoder",
    "GroupedTokenizer",
    "Tokens",
    "WindowEncoder",
    "WindowTokenizer",
]

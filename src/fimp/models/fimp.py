"""FIMP: nodes stay token sequences, messages are cross-attention between them (arXiv 2210.09475)."""

from __future__ import annotations

from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.models.registry import Hyperparameters, ModelSpec, register
from fimp.nn.layers import FIMPLayer, SelfAttentionLayer


class FIMP(nn.Module):
    """placeholder plan sfs."""

    def __init__(
        self, dim: int, layers: int = 1, heads: int = 4, dropout: float = 0.1, attention_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.out_dim, self.hops = dim, layers
        options = {"dropout": dropout, "attention_dropout": attention_dropout}
        self.before = SelfAttentionLayer(dim, heads, **options)
        self.conv = nn.ModuleList(FIMPLayer(dim, heads, **options) for _ in range(layers))
        self.after = SelfAttentionLayer(dim, heads, **options)
        self.norm = nn.LayerNorm(dim)

    def forward(self, h: Tensor, mask: Tensor, hidden: Tensor, graph: Subgraph) -> Tensor:
        """``[n, T, D]`` to ``[seeds, T, D]``."""
        h = self.before(h, mask)
        for layer, (edges, num_dst) in zip(self.conv, graph.layers(), strict=True):
            h = layer(h, edges, mask, num_dst)
            mask = mask[:num_dst]
        out: Tensor = self.norm(self.after(h, mask))
        return out


def _build(h: Hyperparameters, in_dim: int) -> nn.Module:
    return FIMP(in_dim, h.layers, h.heads, h.dropout, h.attention_dropout)


register(
    ModelSpec(
        "fimp-base",
        "cross-node attention learned from scratch",
        "tokens",
        _build,
        Hyperparameters(dim=64, layers=1, lr=2e-3),
    )
)

"""GraphMAE: a masked graph autoencoder, then fine-tuned (Hou et al., arXiv 2205.10803)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATConv

from fimp.data.subgraph import Subgraph
from fimp.models.gat import GAT
from fimp.models.registry import Backbone, Hyperparameters, ModelSpec, register

#: Share of nodes whose vector is masked, and share of those that show another node's vector instead of [MASK].
MASK_RATE, REPLACE_RATE = 0.5, 0.05
#: Exponent of the scaled cosine error: nodes that are reconstructed well count less.
GAMMA = 2.0


class GraphMAE(Backbone):
    """A GAT encoder that first learns to reconstruct masked nodes' vectors from their neighbours (arXiv 2205.10803).

    1. Half of the nodes are masked: their vector is a learned [MASK], or for a few another node's vector.
    2. The encoder, which is what fine-tuning keeps, gives every node a code.
    3. Codes of masked nodes are masked again ([DMASK]) behind a linear map, so that the decoder, one more graph
       attention layer, has to find them in the neighbours' codes.
    4. The loss is the scaled cosine error between vectors and reconstructions of the masked nodes.

    Parameters
    ----------
    in_dim
        Length F of a node's vector.
    dim
        Width D.
    layers
        Number of convolutions of the encoder.
    heads
        Attention heads.
    dropout, attention_dropout
        Probabilities of dropping hidden values and attention weights.

    Raises
    ------
    FIMPError
        If ``heads`` does not divide ``dim``.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_dim, self.hops, self.pretraining_hops = dim, layers, layers + 1
        self.encoder = GAT(in_dim, dim, layers, heads, dropout, attention_dropout)
        # Small, not zero: attention scores of a code that is exactly zero have no gradient.
        self.mask = nn.Parameter(0.02 * torch.randn(in_dim))
        self.bridge = nn.Linear(dim, dim, bias=False)
        self.remask = nn.Parameter(0.02 * torch.randn(dim))
        self.decoder = GATConv(dim, dim // heads, heads)
        # Behind the aggregation rather than in it: vectors may be long, and there are more edges than nodes.
        self.output = nn.Linear(dim, in_dim)

    def forward(self, x: Tensor, graph: Subgraph) -> Tensor:
        """``[n, F]`` to ``[seeds, D]``: the codes."""
        out: Tensor = self.encoder(x, graph)
        return out

    def pretraining_loss(self, x: Tensor, graph: Subgraph) -> Tensor:
        """Scaled cosine error of the masked seeds, a scalar; ``graph`` has a hop more than there are layers."""
        draw = torch.rand(len(x), device=x.device)
        masked = draw < MASK_RATE
        # A batch of few seeds has something to reconstruct, too.
        masked[draw[: graph.num_seeds].argmin()] = True
        replaced = masked & (torch.rand(len(x), device=x.device) < REPLACE_RATE)
        other = torch.randint(len(x), (len(x),), device=x.device)
        shown = torch.where(masked[:, None], self.mask, x)
        shown = torch.where(replaced[:, None], x[other], shown)
        asked = masked[: graph.num_seeds]
        return scaled_cosine_error(self.reconstruct(shown, masked, graph)[asked], x[: graph.num_seeds][asked])

    def reconstruct(self, x: Tensor, masked: Tensor, graph: Subgraph) -> Tensor:
        """Vectors of the seeds ``[seeds, F]`` from what is shown, ``x [n, F]``, and who is masked, ``[n]``."""
        *inner, (edges, num_seeds) = graph.layers()
        code = self.bridge(self.encoder.states(x, graph, inner))
        code = torch.where(masked[: len(code), None], self.remask, code)
        out: Tensor = self.output(self.decoder((code, code[:num_seeds]), edges))
        return out


def scaled_cosine_error(out: Tensor, x: Tensor) -> Tensor:
    """Mean over nodes of (1 - cosine of ``out [n, F]`` and ``x [n, F]``) to the power of gamma."""
    return (1.0 - F.cosine_similarity(out, x)).clamp(min=0.0).pow(GAMMA).mean()


def _build(h: Hyperparameters, in_dim: int) -> Backbone:
    return GraphMAE(in_dim, h.dim, h.layers, h.heads, h.decided_dropout, h.attention_dropout)


register(
    ModelSpec(
        "graphmae",
        "masked graph autoencoder, then fine-tuned",
        "vectors",
        _build,
        Hyperparameters(dim=128, lr=3e-3),
        pretrains=True,
    )
)

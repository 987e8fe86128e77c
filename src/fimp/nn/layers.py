"""Pre-norm blocks in which tokens ask their own node and its neighbours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp import ops
from fimp.errors import FIMPError
from fimp.nn.cross_attention import CrossNodeAttention
from fimp.nn.fimp_conv import FIMPConv
from fimp.tokenizers.base import Tokens


class FeedForward(nn.Sequential):
    """Two linear layers with GELU between: ``[..., D] -> [..., D]``.

    Parameters
    ----------
    dim, hidden
        Width D, and width of the hidden layer.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def silence(self) -> None:
        """Let it give nothing, until it has learned something."""
        last = self[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


class FeatureDropout(nn.Module):
    """Dropout of features of a node, for all its tokens at once: ``[N, T, D] -> [N, T, D]``.

    Parameters
    ----------
    p
        Probability of dropping a feature.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, h: Tensor) -> Tensor:
        """Drop in training, return as it is in evaluation."""
        if not self.training or self.p == 0.0:
            return h
        return h * F.dropout(h.new_ones(h.size(0), 1, h.size(2)), self.p)

    def extra_repr(self) -> str:
        """Probability for ``repr``."""
        return f"p={self.p}"


class HalfNorm(nn.Module):
    """Layer norm of the second half of the channels; the first half is scaled by learned factors alone.

    For tokens whose first half holds values, of which one that is twice as large should say twice as much.

    Parameters
    ----------
    dim
        Width D, even.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(dim // 2))
        self.norm = nn.LayerNorm(dim - dim // 2)

    def forward(self, h: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        values, rest = h.tensor_split([len(self.factor)], -1)
        return torch.cat([values * self.factor, self.norm(rest)], -1)


class OwnAttention(nn.Module):
    """Attention of a node's query tokens to its own source tokens: the message along a self-loop.

    Equations 6 and 7 of arXiv 2210.09475 with one node on both sides.

    Parameters
    ----------
    dim, heads
        Model width D and number of heads.
    dropout
        Probability of dropping an attention weight.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.kv_proj, self.out_proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, queries: Tensor, sources: Tokens) -> Tensor:
        """``[N, T, D]`` and sources ``[N, S, D]`` to ``[N, T, D]``."""
        q = self.q_proj(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv_proj(sources.h).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # Finite, so that a node without any real token gives no NaN.
        bias = torch.zeros_like(sources.mask, dtype=q.dtype).masked_fill(~sources.mask, -1e4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[:, None, None, :], dropout_p=dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    @torch.no_grad()
    def attention(self, queries: Tensor, sources: Tokens) -> Tensor:
        """Attention weights, mean over heads: ``[N, T, D]`` and sources ``[N, S, D]`` to ``[N, T, S]``."""
        q = self.q_proj(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.kv_proj(sources.h).unflatten(-1, (2, self.heads, -1)).select(2, 0).transpose(1, 2)
        loops = torch.arange(len(queries), device=queries.device).expand(2, -1)
        return ops.edge_attention_weights(q, k, loops, key_mask=sources.mask).mean(1)


class FIMPLayer(nn.Module):
    """A message passing layer with its update, pre-norm (arXiv 2210.09475, Algorithm 1).

    ``H_i <- H_i + A_i`` with ``A_i`` the mean message of the neighbours (:class:`FIMPConv`), plus, where asked for,
    the mean message of nodes farther away and, unless ``own=False``, the message of the node to itself, each through
    weights of its own; then ``H_i <- H_i + FFN(LN(H_i))``.

    Parameters
    ----------
    dim, heads
        Model width D and number of heads.
    dropout
        Probability of dropping a feature of either residual branch.
    attention_dropout
        Probability of dropping an attention weight.
    edge_dropout
        Probability that a message is not sent in a training step.
    own
        Whether a node's queries attend to its own sources too.
    names
        Whether queries find their neighbours' tokens by name, too (:class:`fimp.nn.CrossNodeAttention`).
    value_dim
        Width of what a neighbour's token says (:class:`fimp.nn.CrossNodeAttention`).
    far
        Whether queries attend to the sources of nodes farther away, along edges of their own.
    heard
        Whether neighbours that have nothing to say to a query do not count in its mean
        (:class:`fimp.nn.CrossNodeAttention`), and the first half of the channels, which then holds values, is not
        normalised (:class:`HalfNorm`).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        edge_dropout: float = 0.0,
        own: bool = True,
        names: bool = False,
        value_dim: int | None = None,
        far: bool = False,
        heard: bool = False,
    ) -> None:
        super().__init__()
        self.edge_dropout = edge_dropout
        norm = HalfNorm if heard else nn.LayerNorm
        self.norm_query, self.norm_source, self.norm_ffn = norm(dim), norm(dim), norm(dim)

        def conv() -> FIMPConv:
            message = CrossNodeAttention(
                dim, heads, attention_dropout, null_token=True, names=names, heard=heard, value_dim=value_dim
            )
            # What was heard is what divides the sum of what was said.
            return FIMPConv(message, aggr="sum" if heard else "mean")

        self.conv = conv()
        self.far = conv() if far else None
        self.own = OwnAttention(dim, heads, attention_dropout) if own else None
        self.ffn = FeedForward(dim, 2 * dim)
        if heard:
            # What neighbours say is heard unchanged at first.
            self.ffn.silence()
        self.dropout = FeatureDropout(dropout)

    def forward(
        self,
        queries: Tensor,
        sources: Tokens,
        edge_index: Tensor,
        own: Tokens | None = None,
        names: tuple[Tensor, Tensor] | None = None,
        far: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Update the queries of the first nodes from the sources of all.

        Parameters
        ----------
        queries
            ``[N_dst, T, D]``, tokens of the first ``N_dst`` nodes.
        sources
            ``h [N, S, D]`` and ``mask [N, S]``.
        edge_index
            ``[2, E]``, source in row 0.
        own
            Source tokens that a node shows to itself ``h [N_dst, S', D]``, where these are not the ones it
            shows to neighbours.
        names
            Names of sources ``[N, S, D]`` and of queries ``[N_dst, T, D]``, for a layer built with ``names=True``.
        far
            Edges ``[2, F]`` from nodes farther away, for a layer built with ``far=True``.
        edge_weight
            How much the message of each edge counts, ``[E]``.
        """
        asking, told = self.norm_query(queries), self.norm_source(sources.h)
        sent = self._sent(edge_index)
        if sent is not None:
            edge_index, edge_weight = edge_index[:, sent], None if edge_weight is None else edge_weight[sent]
        heard = self.conv((told, asking), edge_index, (sources.mask, None), edge_weight, names)
        if far is not None:
            assert self.far is not None
            sent = self._sent(far)
            edges = far if sent is None else far[:, sent]
            heard = heard + self.far((told, asking), edges, (sources.mask, None), names=names)
        if self.own is not None:
            count = len(queries)
            if own is None:
                mine = Tokens(told[:count], sources.mask[:count])
            else:
                mine = Tokens(self.norm_source(own.h), own.mask)
            heard = heard + self.own(asking, mine)
        return self._update(queries, heard)

    def tell(self, h: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """What nodes say, whoever hears it: tensors ``[N, ...]`` of tokens ``[N, T, D]`` and mask ``[N, T]``."""
        return self.conv.tell(self.norm_source(h), mask)

    def hear(
        self,
        h: Tensor,
        mask: Tensor,
        told: tuple[Tensor, ...],
        mask_src: Tensor | None,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Update nodes that ask and are asked with the same tokens, from what :meth:`tell` made of their sources.

        Parameters
        ----------
        h, mask
            Tokens ``[N_dst, T, D]`` and mask ``[N_dst, T]`` of the destinations.
        told, mask_src
            What sources said, and their mask ``[N_src, T]``.
        edge_index, edge_weight
            As in :meth:`forward`.
        """
        asking = self.norm_query(h)
        heard = self.conv.hear(asking, None, told, mask_src, edge_index, edge_weight)
        if self.own is not None:
            heard = heard + self.own(asking, Tokens(self.norm_source(h), mask))
        return self._update(h, heard)

    def _update(self, queries: Tensor, heard: Tensor) -> Tensor:
        queries = queries + self.dropout(heard)
        return queries + self.dropout(self.ffn(self.norm_ffn(queries)))

    def _sent(self, edges: Tensor) -> Tensor | None:
        """Along which edges a message is sent in this step, ``[E]``; None is along all."""
        if not self.training or self.edge_dropout == 0.0:
            return None
        return torch.rand(edges.size(1), device=edges.device) >= self.edge_dropout

    @torch.no_grad()
    def attention(
        self, queries: Tensor, sources: Tokens, edge_index: Tensor, names: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Attention weights of the given edges, mean over heads, ``[E, T, S]``.

        Arguments as in :meth:`forward`. Rows sum to one minus what the null token takes.
        """
        message = self.conv.message
        assert isinstance(message, CrossNodeAttention)
        asking, told = self.norm_query(queries), self.norm_source(sources.h)
        return message.attention(asking, told, edge_index, sources.mask, names)

    @torch.no_grad()
    def own_attention(self, queries: Tensor, own: Tokens) -> Tensor:
        """Attention weights of nodes to what they show to themselves, mean over heads, ``[N_dst, T, S']``.

        Raises
        ------
        FIMPError
            If the layer was built with ``own=False``.
        """
        if self.own is None:
            raise FIMPError("FIMPLayer.own_attention: built with own=False; nodes tell themselves nothing")
        return self.own.attention(self.norm_query(queries), Tokens(self.norm_source(own.h), own.mask))

    @torch.no_grad()
    def shares(
        self,
        queries: Tensor,
        sources: Tokens,
        edge_index: Tensor,
        names: tuple[Tensor, Tensor] | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Share of every edge in what a query hears, ``[E, T]`` (:meth:`fimp.nn.CrossNodeAttention.shares`)."""
        message = self.conv.message
        assert isinstance(message, CrossNodeAttention)
        asking, told = self.norm_query(queries), self.norm_source(sources.h)
        return message.shares(asking, told, edge_index, sources.mask, edge_weight, names)

"""Message creation from scratch: multi-head attention between the tokens of two nodes."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp import ops
from fimp.errors import FIMPError

#: Where the prior of messages that are divided by what was heard starts, before softplus: at 0.13.
_PRIOR = -2.0
#: How much states say at its start of who asks whom, and what a name then scores against itself.
_CONTENT, _NAMESAKE = 0.05, 11.3


class MessageCreator(Protocol):
    """What :class:`fimp.nn.FIMPConv` asks to make messages and aggregate them.

    Creation and aggregation are one call, because messages of single edges are never held:
    they would be ``[E, T, D]``. The call is ``hear(h_dst, tell(h_src), ...)``, which inference over large graphs does
    in two steps (:func:`fimp.train.layerwise_inference`).
    """

    def __call__(
        self,
        h_dst: Tensor,
        h_src: Tensor,
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        edge_weight: Tensor | None = None,
        aggr: str = "mean",
        names: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Aggregated messages ``[N_dst, T, D]``; zero for a node that receives nothing."""
        ...

    def tell(self, h_src: Tensor, mask_src: Tensor | None = None, names: Tensor | None = None) -> tuple[Tensor, ...]:
        """What sources say, whoever hears it: tensors ``[N_src, ...]``, computed once per node."""
        ...

    def hear(
        self,
        h_dst: Tensor,
        told: tuple[Tensor, ...],
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        edge_weight: Tensor | None = None,
        aggr: str = "mean",
        names: Tensor | None = None,
    ) -> Tensor:
        """The call's result, of what :meth:`tell` made of the sources; ``names`` are the destinations'."""
        ...

    def reset_parameters(self) -> None:
        """Draw all learnable parameters anew."""
        ...


class CrossNodeAttention(nn.Module):
    r"""Multi-head cross-attention from a node's tokens to each neighbour's (FIMP-base).

    .. math::
        M_{ji} = \mathrm{softmax}\!\left(\frac{(H_i W_Q)(H_j W_K)^\top}{\sqrt{d}}\right) H_j W_V

    per head, equations 6 and 7 of arXiv 2210.09475, followed by an output projection. Projections are
    computed once per node; the output projection, being linear, after the aggregation.

    Parameters
    ----------
    dim
        Model width D.
    heads
        Number of attention heads; must divide ``dim``.
    dropout
        Probability of dropping an attention weight during training.
    bias
        Whether the projections have biases.
    backend
        Backend of :func:`fimp.ops.edge_attention`.
    null_token
        Give every source that has a real token one more, learned, token: a neighbour that knows nothing
        then has a way to say little.
    names
        Let tokens be found by their names, which say what they are apart from their values (gene embeddings, for
        instance), besides their states: names have projections of their own, whose products add to the scores. Queries
        and keys start from the same orthogonal one, so that at first a token asks its namesakes, and the null token
        where there are none. With ``heard``, names are taken as they are, of squared length D, and heads begin with
        a slice of them each.
    heard
        Divide the aggregated message of a token by the share of attention that did not go to null tokens, plus a
        learned prior per head: neighbours that have nothing to say to a token do not count in its mean, and a token
        that hears little is answered little, as in kriging. Needs null tokens, and values of every head's own.
    value_dim
        Width of what a token says, which all heads then hear alike; by default ``dim / heads`` numbers for every
        head, as in the paper. Where a token holds little (the name and the value of a gene), a wide value is a way to
        learn nodes by heart.

    Raises
    ------
    FIMPError
        If ``heads`` does not divide ``dim``, ``value_dim`` is below 1, or ``heard`` has not what it needs.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        dropout: float = 0.0,
        bias: bool = True,
        backend: str = "auto",
        null_token: bool = False,
        names: bool = False,
        heard: bool = False,
        value_dim: int | None = None,
    ) -> None:
        super().__init__()
        if dim < 1 or heads < 1 or dim % heads:
            raise FIMPError(f"CrossNodeAttention: heads={heads} does not divide dim={dim}; choose a divisor")
        if value_dim is not None and value_dim < 1:
            raise FIMPError(f"CrossNodeAttention: value_dim={value_dim} is below 1; use 8, for instance, or None")
        if heard and (not null_token or value_dim):
            raise FIMPError("CrossNodeAttention: heard=True needs null_token=True, and value_dim=None")
        self.dim, self.heads, self.dropout, self.backend = dim, heads, dropout, backend
        self.q_proj = nn.Linear(dim, dim, bias=bias)
        self.k_proj = nn.Linear(dim, dim, bias=bias)
        self.v_proj = nn.Linear(dim, value_dim or dim, bias=bias)
        self.out_proj = nn.Linear(heads * value_dim if value_dim else dim, dim, bias=bias)
        self.value_dim = value_dim
        self.null_key = nn.Parameter(torch.empty(heads, 1, dim // heads)) if null_token else None
        self.null_value = nn.Parameter(torch.empty(heads, 1, value_dim or dim // heads)) if null_token else None
        self.named = names
        if names:
            self.name_norm: nn.Module = nn.Identity() if heard else nn.LayerNorm(dim)
            self.q_name, self.k_name = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
            self.null_score = nn.Parameter(torch.empty(heads)) if null_token else None
        self.prior = nn.Parameter(torch.empty(heads)) if heard else None
        self.reset_parameters()

    @classmethod
    def from_multihead(cls, mha: nn.MultiheadAttention, backend: str = "auto") -> Self:
        """Copy the weights of a ``torch.nn.MultiheadAttention``.

        Raises
        ------
        FIMPError
            If the module has separate key or value widths, or appended key and value biases.
        """
        if mha.in_proj_weight is None or mha.bias_k is not None or mha.add_zero_attn:
            raise FIMPError(
                "CrossNodeAttention.from_multihead: wanted one width for query, key and value and neither "
                "add_bias_kv nor add_zero_attn; build the MultiheadAttention without kdim, vdim and these"
            )
        bias = mha.in_proj_bias is not None
        new = cls(mha.embed_dim, mha.num_heads, dropout=mha.dropout, bias=bias, backend=backend)
        new = new.to(mha.in_proj_weight.device, mha.in_proj_weight.dtype)
        inputs = (new.q_proj, new.k_proj, new.v_proj)
        with torch.no_grad():
            for linear, weight in zip(inputs, mha.in_proj_weight.chunk(3), strict=True):
                linear.weight.copy_(weight)
            new.out_proj.weight.copy_(mha.out_proj.weight)
            if bias:
                for linear, part in zip(inputs, mha.in_proj_bias.chunk(3), strict=True):
                    linear.bias.copy_(part)
                new.out_proj.bias.copy_(mha.out_proj.bias)
        return new.train(mha.training)

    def reset_parameters(self) -> None:
        """Glorot weights and zero biases, as ``torch.nn.MultiheadAttention`` starts; names as described above."""
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        if self.null_key is not None:
            assert self.null_value is not None
            nn.init.normal_(self.null_key, std=0.1)
            nn.init.normal_(self.null_value, std=0.1)
        if self.named:
            if isinstance(self.name_norm, nn.LayerNorm):
                self.name_norm.reset_parameters()
            nn.init.orthogonal_(self.q_name.weight)
            with torch.no_grad():
                self.k_name.weight.copy_(self.q_name.weight)
                if self.null_score is not None:
                    # About what namesakes score: normalised names of D numbers, cut into heads.
                    self.null_score.fill_((self.dim / self.heads) ** 0.5)
        if self.prior is not None:
            self._start_as_kernel()

    @torch.no_grad()
    def _start_as_kernel(self) -> None:
        """Begin as a kernel smoother: a message is the mean of what neighbours said, the better they fit by name."""
        assert self.prior is not None
        assert self.null_value is not None
        nn.init.constant_(self.prior, _PRIOR)
        # What the prior says when nobody else does.
        self.null_value.zero_()
        for linear in (self.v_proj, self.out_proj):
            nn.init.eye_(linear.weight)
        self.q_proj.weight.mul_(_CONTENT)
        if self.named:
            nn.init.eye_(self.q_name.weight)
            # Names have length D, and are taken as they are: heads see D / heads of their square.
            self.k_name.weight.copy_(_NAMESAKE * (self.dim / self.heads) ** -0.5 * self.q_name.weight)
            assert self.null_score is not None
            self.null_score.fill_(_NAMESAKE)

    def _split(self, h: Tensor) -> Tensor:
        return h.view(h.size(0), h.size(1), self.heads, self.dim // self.heads).transpose(1, 2)

    def forward(
        self,
        h_dst: Tensor,
        h_src: Tensor,
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        edge_weight: Tensor | None = None,
        aggr: str = "mean",
        names: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Make the messages of all edges and aggregate them at their destinations.

        Parameters
        ----------
        h_dst, h_src
            Tokens of destinations ``[N_dst, T, D]`` and sources ``[N_src, S, D]``.
        edge_index
            ``[2, E]``, source in row 0 and destination in row 1.
        mask_src
            ``[N_src, S]``, True = real token.
        edge_weight
            ``[E]`` weights in the aggregation.
        aggr
            ``"mean"`` or ``"sum"``.
        names
            Names of the tokens, of sources ``[N_src, S, D]`` and of destinations ``[N_dst, T, D]``.

        Returns
        -------
        Tensor
            ``[N_dst, T, D]``, exactly zero for a node that receives nothing.

        Raises
        ------
        FIMPError
            If names are given to a module built without, or as :func:`fimp.ops.edge_attention`.
        """
        named_src, named_dst = (None, None) if names is None else names
        told = self.tell(h_src, mask_src, named_src)
        return self.hear(h_dst, told, edge_index, mask_src, edge_weight, aggr, named_dst)

    def tell(self, h_src: Tensor, mask_src: Tensor | None = None, names: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys ``[N_src, S, D]`` and values ``[N_src, S, D or value_dim]``; arguments as in :meth:`forward`.

        Raises
        ------
        FIMPError
            If names are given to a module built without.
        """
        key = self.k_proj(h_src)
        if names is not None:
            if not self.named:
                raise FIMPError("CrossNodeAttention: got names, but was built without; build it with names=True")
            key = key + self.k_name(self.name_norm(names))
        return key, self.v_proj(h_src)

    def hear(
        self,
        h_dst: Tensor,
        told: tuple[Tensor, ...],
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        edge_weight: Tensor | None = None,
        aggr: str = "mean",
        names: Tensor | None = None,
    ) -> Tensor:
        """Attend to keys and values that :meth:`tell` made, and aggregate; otherwise as :meth:`forward`."""
        query, key, value, key_mask = self._project(h_dst, told, mask_src, names)
        if self.prior is not None:
            # One more channel adds up the attention to real tokens; the null token comes last.
            real = torch.ones_like(value[..., :1])
            value = torch.cat([value, F.pad(real[:, :, 1:], (0, 0, 0, 1))], -1)
        attended = ops.edge_attention(
            query,
            key,
            value,
            edge_index,
            key_mask=key_mask,
            edge_weight=edge_weight,
            aggr=aggr,
            scale=self._scale,
            dropout=self.dropout if self.training else 0.0,
            backend=self.backend,
        )
        if self.prior is not None:
            attended = attended[..., :-1] / (attended[..., -1:] + F.softplus(self.prior)[:, None, None])
        out = F.linear(attended.transpose(1, 2).flatten(2), self.out_proj.weight)
        if self.out_proj.bias is None:
            return out
        # Every message carries the output bias once, so it is scaled like the messages themselves.
        total = ops.message_weight(edge_index, h_dst.size(0), mask_src, edge_weight, dtype=out.dtype)
        divided = aggr == "mean" or self.prior is not None
        times = (total != 0).to(out.dtype) if divided else total
        return out + times[:, None, None] * self.out_proj.bias

    @torch.no_grad()
    def attention(
        self,
        h_dst: Tensor,
        h_src: Tensor,
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        names: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attention weights of the given edges averaged over heads, ``[E, T, S]``.

        What goes to a null token is left out, so rows may sum to less than one.
        """
        named_src, named_dst = (None, None) if names is None else names
        query, key, _, key_mask = self._project(h_dst, self.tell(h_src, mask_src, named_src), mask_src, named_dst)
        weights = ops.edge_attention_weights(query, key, edge_index, key_mask=key_mask, scale=self._scale)
        return weights.mean(1)[:, :, : h_src.size(1)]

    @torch.no_grad()
    def shares(
        self,
        h_dst: Tensor,
        h_src: Tensor,
        edge_index: Tensor,
        mask_src: Tensor | None = None,
        edge_weight: Tensor | None = None,
        names: tuple[Tensor, Tensor] | None = None,
        chunk: int = 1024,
    ) -> Tensor:
        r"""Share of each edge in what a token hears, averaged over heads, ``[E, T]``.

        .. math::
            \mathrm{share}_e = \frac{w_e \sum_s a_{e,t,s}}{\sum_{e'} w_{e'} \sum_s a_{e',t,s} + \mathrm{prior}}

        with sums over real tokens, not the null token, and over the in-edges ``e'`` of the same destination: the
        weights with which a message of a module built with ``heard=True`` is made of its edges. What the prior takes is
        missing from one.

        Parameters
        ----------
        h_dst, h_src, edge_index, mask_src, edge_weight, names
            As in :meth:`forward`; all edges of a destination must be there.
        chunk
            Edges whose attention is held at once.

        Raises
        ------
        FIMPError
            If the module was built without ``heard``, whose messages all weigh alike.
        """
        if self.prior is None:
            raise FIMPError("CrossNodeAttention.shares: built without heard=True, so that all edges weigh alike")
        named_src, named_dst = (None, None) if names is None else names
        query, key, _, key_mask = self._project(h_dst, self.tell(h_src, mask_src, named_src), mask_src, named_dst)
        parts = []
        for edges in edge_index.split(chunk, 1):
            weights = ops.edge_attention_weights(query, key, edges, key_mask=key_mask, scale=self._scale)
            parts.append(weights[..., : h_src.size(1)].sum(-1))
        heard = torch.cat(parts) if parts else query.new_zeros(0, self.heads, h_dst.size(1))
        if edge_weight is not None:
            heard = heard * edge_weight[:, None, None]
        total = heard.new_zeros(h_dst.size(0), *heard.shape[1:]).index_add(0, edge_index[1], heard)
        total = total + F.softplus(self.prior)[:, None]
        return (heard / total[edge_index[1]]).mean(1)

    @property
    def _scale(self) -> float:
        return float((self.dim // self.heads) ** -0.5)

    def _project(
        self, h_dst: Tensor, told: tuple[Tensor, ...], mask_src: Tensor | None, names: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Queries, keys, values and mask of the keys, null tokens included."""
        query, (key, value) = self.q_proj(h_dst), told
        if names is not None:
            query = query + self.q_name(self.name_norm(names))
        tokens = key.size(1)
        query, key = self._split(query), self._split(key)
        value = self._split(value) if self.value_dim is None else value[:, None].expand(-1, self.heads, -1, -1)
        if self.null_key is None:
            return query, key, value, mask_src
        assert self.null_value is not None
        null_key, null_value = (part.expand(len(key), -1, -1, -1) for part in (self.null_key, self.null_value))
        if mask_src is not None:
            mask_src = torch.cat([mask_src, mask_src.any(1, keepdim=True)], 1)
        key = torch.cat([key, null_key], 2)
        if names is not None:
            # One more number per query, always 1, meets the score of the null token, and 0 for all others.
            assert self.null_score is not None
            query = torch.cat([query, torch.ones_like(query[..., :1])], -1)
            score = (self.null_score / self._scale).view(1, -1, 1, 1).expand(len(key), -1, -1, -1)
            key = torch.cat([key, F.pad(score, (0, 0, tokens, 0))], -1)
        return query, key, torch.cat([value, null_value], 2), mask_src

    def extra_repr(self) -> str:
        """Width, heads and dropout for ``repr``."""
        return f"dim={self.dim}, heads={self.heads}, dropout={self.dropout}"

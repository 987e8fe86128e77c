"""One layer of a transformer, in two halves, so that its keys and values may be those of another node."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.errors import FIMPError
from fimp.nn.stack_config import ACTIVATIONS, StackConfig

#: Iterations of the pseudo-inverse of Nystrom attention, as in ``transformers``.
_INVERSE_ITERATIONS = 6


class TransformerLayer(nn.Module):
    """One layer of a :class:`TransformerStack`.

    Parameters
    ----------
    config
        The stack's configuration.
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        dim, bias = config.dim, config.qkv_bias
        self.config = config
        self.q_proj = nn.Linear(dim, dim, bias=bias)
        self.k_proj = nn.Linear(dim, dim, bias=bias)
        self.v_proj = nn.Linear(dim, dim, bias=bias)
        self.out_proj = nn.Linear(dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=config.eps), nn.LayerNorm(dim, eps=config.eps)
        self.linear1 = nn.Linear(dim, config.hidden)
        self.gate = nn.Linear(dim, config.hidden) if config.activation == "swiglu" else None
        self.linear2 = nn.Linear(config.hidden, dim)
        self.scale1 = nn.Parameter(torch.empty(dim)) if config.layer_scale else None
        self.scale2 = nn.Parameter(torch.empty(dim)) if config.layer_scale else None
        kernel = config.value_conv
        self.value_conv = None
        if kernel is not None:
            # One filter per head, the same for all its features; the layout of the published weights.
            shape = {"kernel_size": (kernel, 1), "padding": (kernel // 2, 0), "groups": config.heads}
            self.value_conv = nn.Conv2d(config.heads, config.heads, bias=False, **shape)  # type: ignore[arg-type]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot weights and zero biases for attention, torch's defaults elsewhere, layer scales of one."""
        for module in self.children():
            if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Conv2d)):
                module.reset_parameters()
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.out_proj):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        for scale in (self.scale1, self.scale2):
            if scale is not None:
                nn.init.ones_(scale)

    def queries(self, x: Tensor) -> Tensor:
        """States ``[N, T, D]`` to queries ``[N, H, T, d]``."""
        return self._split(self.q_proj(self._before(x)))

    def keys_values(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States ``[N, S, D]`` to keys and values ``[N, H, S, d]``, zero where ``mask [N, S]`` is False."""
        x = self._before(x)
        key, value = self._split(self.k_proj(x)), self._split(self.v_proj(x))
        if mask is None:
            return key, value
        # A weight of zero does not silence a NaN: what is masked must not enter a product.
        hidden = ~mask[:, None, :, None]
        return key.masked_fill(hidden, 0.0), value.masked_fill(hidden, 0.0)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Context of queries, value convolution included.

        Parameters
        ----------
        query
            ``[N, H, T, d]``.
        key, value
            ``[N, H, S, d]``, as :meth:`keys_values` makes them.
        mask
            ``[N, S]``, True = real token. Where a row has none, the result is finite and means nothing.

        Returns
        -------
        Tensor
            ``[N, T, D]``.

        Raises
        ------
        FIMPError
            If tokens do not divide into landmarks, if Nystrom attention gets a partly masked row, or if there is a
            value convolution and T is not S.
        """
        if self.config.landmarks is not None:
            context = self._nystrom(query, key, value, mask)
        else:
            allowed = None
            if mask is not None:
                # Rows without any real token attend to (zeroed) padding instead of giving NaN.
                allowed = (mask | ~mask.any(-1, keepdim=True))[:, None, None, :]
            dropout = self.config.dropout if self.training else 0.0
            context = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed, dropout_p=dropout)
        if self.value_conv is not None:
            context = context + self.convolve(value, query.size(2))
        return context.transpose(1, 2).flatten(2)

    def convolve(self, value: Tensor, tokens: int) -> Tensor:
        """The value convolution ``[N, H, S, d]``, which meets the context of ``tokens`` queries at equal positions.

        Raises
        ------
        FIMPError
            If ``tokens`` is not S.
        """
        assert self.value_conv is not None
        if value.size(2) != tokens:
            raise FIMPError(
                f"TransformerLayer: the value convolution of this model needs equal numbers of tokens, got {tokens} "
                f"queries and {value.size(2)} source tokens; give all nodes sequences of one length"
            )
        return self.value_conv(value)

    def finish(self, x: Tensor, context: Tensor) -> Tensor:
        """What follows attention: ``x`` and context, both ``[N, T, D]``, to the layer's output."""
        attended = self._branch(self.out_proj(context), self.scale1)
        if self.config.norm == "post":
            x = self.norm1(x + attended)
            return self.norm2(x + self._branch(self._feed_forward(x), self.scale2))
        x = x + attended
        return x + self._branch(self._feed_forward(self.norm2(x)), self.scale2)

    def tell(self, x: Tensor, mask: Tensor | None, last: bool) -> tuple[Tensor, Tensor, Tensor]:
        """A layer of a source stream: keys and values ``[N, H, S, d]``, and what the next layer is given ``[N, S, D]``.

        Parameters
        ----------
        x, mask
            States ``[N, S, D]`` and their mask ``[N, S]``.
        last
            Whether there is no next layer; states are then returned as they came.
        """
        key, value = self.keys_values(x, mask)
        if not last:
            x = self.finish(x, self.attend(self.queries(x), key, value, mask))
        return key, value, x

    def hear(self, x: Tensor, listen: Callable[[Tensor], Tensor], run: Callable[..., Tensor]) -> Tensor:
        """A layer of a message stream, ``[N, T, D]`` to the same.

        Parameters
        ----------
        x
            States ``[N, T, D]``.
        listen
            Makes queries ``[N, H, T, d]`` a context ``[N, T, D]`` of what others tell.
        run
            ``run(function, *arguments)`` calls the function that follows attention, :meth:`finish`.
        """
        return run(self.finish, x, listen(self.queries(x)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Plain self-attention: ``[N, T, D]`` and ``mask [N, T]`` to ``[N, T, D]``."""
        return self.finish(x, self.attend(self.queries(x), *self.keys_values(x, mask), mask))

    def _before(self, x: Tensor) -> Tensor:
        return self.norm1(x) if self.config.norm == "pre" else x

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)

    def _branch(self, x: Tensor, scale: Tensor | None) -> Tensor:
        x = x if scale is None else x * scale
        return F.dropout(x, self.config.dropout, self.training)

    def _feed_forward(self, x: Tensor) -> Tensor:
        activation = ACTIVATIONS[self.config.activation]
        hidden = self.linear1(x)
        return self.linear2(activation(hidden) if self.gate is None else activation(self.gate(x)) * hidden)

    def _nystrom(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Nystrom attention, ``[N, H, T, d]``; landmarks are means of consecutive segments."""
        landmarks = self.config.landmarks
        assert landmarks is not None
        for tokens in (query.size(2), key.size(2)):
            if tokens % landmarks:
                raise FIMPError(
                    f"TransformerLayer: {tokens} tokens do not divide into the {landmarks} landmarks of this model; "
                    "change the number of tokens or of landmarks"
                )
        if mask is not None:
            real = mask.any(-1)
            if bool((real != mask.all(-1)).any()):
                raise FIMPError(
                    "TransformerLayer: Nystrom attention got masked tokens, but averages consecutive tokens, masked or "
                    "not; leave them out of the sequence instead of masking them"
                )
            # Keys of an empty row are zero already; without its queries all its column sums are 1, which no maximum
            # is below, so that it does not reach the other rows.
            query = query.masked_fill(~real[:, None, None, None], 0.0)
        scale = query.size(-1) ** -0.25
        query, key = query * scale, key * scale
        few_queries, few_keys = (part.unflatten(2, (landmarks, -1)).mean(3) for part in (query, key))
        to_landmarks = (query @ few_keys.transpose(-1, -2)).softmax(-1)
        between = (few_queries @ few_keys.transpose(-1, -2)).softmax(-1)
        from_landmarks = (few_queries @ key.transpose(-1, -2)).softmax(-1)
        return (to_landmarks @ _inverse(between)) @ (from_landmarks @ value)


def without_masked(h: Tensor, mask: Tensor | None) -> Tensor:
    """``[N, T, D]`` with zeros where ``mask [N, T]`` is False, so that rubbish there spoils no gradient either."""
    return h if mask is None else h.masked_fill(~mask[:, :, None], 0.0)


def _inverse(matrix: Tensor) -> Tensor:
    """Iterative pseudo-inverse of ``[N, H, m, m]`` (equation 16 of arXiv 2102.03902).

    It starts from one scale for all samples and heads, so a sample's result depends, slightly, on its batch; that is
    what upstream computes.
    """
    identity = torch.eye(matrix.size(-1), dtype=matrix.dtype, device=matrix.device)
    if matrix.numel() == 0:
        return matrix
    result = matrix.transpose(-1, -2) / matrix.sum(-2).amax()
    for _ in range(_INVERSE_ITERATIONS):
        product = matrix @ result
        inner = 15 * identity - product @ (7 * identity - product)
        result = 0.25 * result @ (13 * identity - product @ inner)
    return result

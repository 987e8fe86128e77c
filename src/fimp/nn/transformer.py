"""The one transformer stack into which the weights of every foundation model are converted.

A layer comes in two halves, so that its keys and values may be those of another node: :meth:`TransformerLayer.queries`,
:meth:`~TransformerLayer.keys_values` and :meth:`~TransformerLayer.attend` make the context, and
:meth:`~TransformerLayer.finish` does what follows. :meth:`TransformerStack.encode` puts them together as plain
self-attention, :class:`fimp.nn.FoundationMessage` as message creation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fimp.errors import FIMPError


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


#: Activations by the names that published configurations give them; ``swiglu`` is SiLU with a gate beside it.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "silu": F.silu,
    "swish": F.silu,
    "swiglu": F.silu,
}

#: Iterations of the pseudo-inverse of Nystrom attention, as in ``transformers``.
_INVERSE_ITERATIONS = 6


@dataclass(frozen=True)
class StackConfig:
    """What a transformer stack is made of.

    Attributes
    ----------
    dim, heads, hidden, layers
        Model width D, attention heads H, width of the feed-forward network, number of layers.
    norm
        ``"post"``: ``x = norm(x + branch(x))``; ``"pre"``: ``x = x + branch(norm(x))``.
    activation
        One of :data:`ACTIVATIONS`. ``"gelu"`` is the exact one, ``"gelu_new"`` and ``"gelu_pytorch_tanh"`` are its
        approximation by tanh; ``"swiglu"`` computes ``linear2(silu(gate(x)) * linear1(x))``.
    qkv_bias
        Whether the projections to queries, keys and values have biases.
    eps
        Epsilon of the layer norms.
    layer_scale
        Whether the outputs of both branches are multiplied by learned vectors (DINOv2).
    value_conv
        Kernel size, odd, of a depth-wise convolution along the values, added to the context (Nystromformer, BrainLM).
        Values of masked tokens count as zero.
    landmarks
        Number of landmarks of Nystrom attention (arXiv 2102.03902); None is exact softmax attention.
    dropout
        Probability of dropping an attention weight, or an output of a branch, in training. Nystrom attention has no
        dropout of weights.

    Raises
    ------
    FIMPError
        If ``heads`` does not divide ``dim``, or a value is outside its range.
    """

    dim: int
    heads: int
    hidden: int
    layers: int
    norm: Literal["post", "pre"] = "post"
    activation: str = "relu"
    qkv_bias: bool = True
    eps: float = 1e-5
    layer_scale: bool = False
    value_conv: int | None = None
    landmarks: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("dim", "heads", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise FIMPError(f"StackConfig: {name}={getattr(self, name)}, wanted at least 1")
        if self.dim % self.heads:
            raise FIMPError(f"StackConfig: heads={self.heads} does not divide dim={self.dim}; choose a divisor")
        if self.norm not in ("post", "pre"):
            raise FIMPError(f"StackConfig: norm={self.norm!r} is unknown; use 'post' or 'pre'")
        if self.activation not in ACTIVATIONS:
            raise FIMPError(
                f"StackConfig: activation={self.activation!r} is unknown; use one of {', '.join(ACTIVATIONS)}"
            )
        if self.value_conv is not None and (self.value_conv < 1 or self.value_conv % 2 == 0):
            raise FIMPError(f"StackConfig: value_conv={self.value_conv}, wanted an odd kernel size")
        if self.landmarks is not None and self.landmarks < 1:
            raise FIMPError(f"StackConfig: landmarks={self.landmarks}, wanted at least 1, or None for exact attention")
        if not 0.0 <= self.dropout < 1.0:
            raise FIMPError(f"StackConfig: dropout={self.dropout} is outside [0, 1)")


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


class TransformerStack(nn.Module):
    """A stack of transformer layers, without embeddings before or a norm after it.

    Parameters
    ----------
    config
        What it is made of.

    Shapes
    ------
    - **input:** token states ``[N, T, D]``, mask ``[N, T]`` (True = real token)
    - **output:** ``[N, T, D]``
    """

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))

    @overload
    def encode(self, h: Tensor, mask: Tensor | None = None, return_hidden_states: Literal[False] = False) -> Tensor: ...

    @overload
    def encode(self, h: Tensor, mask: Tensor | None = None, *, return_hidden_states: Literal[True]) -> list[Tensor]: ...

    def encode(
        self, h: Tensor, mask: Tensor | None = None, return_hidden_states: bool = False
    ) -> Tensor | list[Tensor]:
        """Run the plain model.

        Parameters
        ----------
        h
            Token states ``[N, T, D]``.
        mask
            ``[N, T]``, True = real token; masked tokens influence no other.
        return_hidden_states
            Return the input and the output of every layer, ``layers + 1`` tensors.

        Returns
        -------
        Tensor or list of Tensor
            ``[N, T, D]``. No final norm is applied, to the last one neither.

        Raises
        ------
        FIMPError
            If shapes do not fit, or as :meth:`TransformerLayer.attend`.
        """
        self.check(h, mask)
        states = [h]
        h = without_masked(h, mask)
        for layer in self.layers:
            h = layer(h, mask)
            if return_hidden_states:
                states.append(h)
        return states if return_hidden_states else h

    def check(self, h: Tensor, mask: Tensor | None) -> None:
        """Raise a :class:`FIMPError` unless ``h`` is ``[N, T, D]`` and ``mask`` boolean ``[N, T]`` or None."""
        if h.dim() != 3 or h.size(-1) != self.config.dim:
            raise FIMPError(
                f"TransformerStack: h has shape {list(h.shape)}, wanted [N, T, {self.config.dim}]; "
                "project the tokens to the width of the model"
            )
        if mask is not None and (mask.shape != h.shape[:2] or mask.dtype != torch.bool):
            raise FIMPError(
                f"TransformerStack: mask has shape {list(mask.shape)} and type {mask.dtype}, "
                f"wanted {list(h.shape[:2])} bool, True = real token"
            )

    def part(self, layers: slice | str | None) -> TransformerStack:
        """A stack of some of the layers, which shares their weights.

        Parameters
        ----------
        layers
            A slice, or one as text: ``"-4:"`` are the last four. None is all of them.

        Raises
        ------
        FIMPError
            If the text is no slice, or no layer is left.
        """
        chosen = parse_layers(layers)
        kept = list(self.layers)[chosen]
        if not kept:
            raise FIMPError(f"layers={layers!r}: leaves none of the model's {len(self.layers)} layers; choose some")
        new = TransformerStack.__new__(TransformerStack)
        nn.Module.__init__(new)
        new.config = replace(self.config, layers=len(kept))
        new.layers = nn.ModuleList(kept)
        return new.train(self.training)

    def reset_parameters(self) -> None:
        """Draw all weights anew; what was loaded is lost."""
        for layer in self.layers:
            assert isinstance(layer, TransformerLayer)
            layer.reset_parameters()


def without_masked(h: Tensor, mask: Tensor | None) -> Tensor:
    """``[N, T, D]`` with zeros where ``mask [N, T]`` is False, so that rubbish there spoils no gradient either."""
    return h if mask is None else h.masked_fill(~mask[:, :, None], 0.0)


def parse_layers(layers: slice | str | None) -> slice:
    """``"-4:"``, ``"2:6"`` or ``"3"`` (one layer) as a slice; a slice stays, None is all.

    Raises
    ------
    FIMPError
        If the text is no slice.
    """
    if layers is None:
        return slice(None)
    if isinstance(layers, slice):
        return layers
    try:
        parts = [int(part) if part.strip() else None for part in layers.split(":")]
    except ValueError:
        parts = []
    if len(parts) == 1 and parts[0] is not None:
        return slice(parts[0], parts[0] + 1 or None)
    if len(parts) not in (2, 3) or parts[2:] == [0]:
        raise FIMPError(f"layers={layers!r}: not a range of layers; write '-4:' (the last four), '2:6' or '3'")
    return slice(*parts)


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

"""What a transformer stack is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
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

"""The one transformer stack into which the weights of every foundation model are converted.

A layer comes in two halves, so that its keys and values may be those of another node: :meth:`TransformerLayer.queries`,
:meth:`~TransformerLayer.keys_values` and :meth:`~TransformerLayer.attend` make the context, and
:meth:`~TransformerLayer.finish` does what follows. :meth:`TransformerStack.encode` puts them together as plain
self-attention, :class:`fimp.nn.FoundationMessage` as message creation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, overload

import torch
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.nn.stack_config import StackConfig
from fimp.nn.transformer_layer import TransformerLayer, without_masked


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

"""Networks that fill in hidden patches of recordings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.models.fimp_rounds import FIMPRounds
from fimp.models.gaussian import Gaussian
from fimp.models.registry import ModelChoice
from fimp.tasks.attention import EdgeAttention, Keep
from fimp.tasks.base import Network
from fimp.tokenizers.base import Tokens
from fimp.tokenizers.window import WindowEncoder, WindowInputs

#: What :func:`fitted_gaussian` chooses from, on validation windows.
_GRID = {
    "shrinkage": (0.1, 0.3),
    "own": (0.0, 0.5),
    "taper": (10.0, 20.0),
    "noise": (0.1, 0.3),
}


class RecordingNetwork(Network):
    """A model between windows of regions and a head that predicts patches.

    Models of vectors correct a learned share of what was filled in for them; there is nothing to keep of noise. All
    start at zero, the mean of a centred signal. A model of tokens starts from the values of what it hears, which have
    channels of their own in its states: untrained, it is a kernel smoother over neighbours.

    Parameters
    ----------
    choice
        Model and hyperparameters.
    patches, length
        Patches of a window, and time points of a patch.
    xyz
        Coordinates of all regions, ``[R, 3]``.
    """

    def __init__(self, choice: ModelChoice, patches: int, length: int, xyz: Tensor) -> None:
        super().__init__()
        h = choice.hyperparameters
        self.input, self.hops = choice.spec.input, 0
        self.bias = nn.Parameter(torch.zeros(patches, length), requires_grad=choice.spec.trainable)
        self.share: nn.Parameter | None = None
        if self.input == "rule":
            self.model = choice.spec.build(h, 0)
        elif self.input != "none":
            self.encoder = WindowEncoder(self.input, patches, length, h.dim, xyz, choice.fill or "mean", h.heads)
            self.model = choice.spec.backbone(h, self.encoder.out_dim, names=True, parts=True)
            self.hops = self.model.hops
            # Interpolation is far off between distant patches: how much of it stays is learned for each time point.
            if self.input == "vectors" and choice.fill != "noise":
                self.share = nn.Parameter(torch.zeros(patches, length))
            out = length if self.input == "tokens" else patches * length
            self.head = nn.Linear(self.model.out_dim, out, bias=False)
            nn.init.zeros_(self.head.weight)
            if self.input == "tokens":
                with torch.no_grad():
                    self.head.weight.copy_(self.encoder.tokenizer.values_of())

    def forward(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """Predicted patches of the seeds, ``[seeds, P, L]``, in units of what is seen of them."""
        asked = inputs.take(graph.num_seeds)
        if self.input == "none":
            return self.bias.expand_as(asked.values)
        if self.input == "rule":
            out: Tensor = self.model(asked.values, asked.hidden)
            return out
        learned = self.head(self._states(inputs, graph)).view_as(asked.values) + self.bias
        return learned if self.share is None else self.share * self.encoder.filled(asked) + learned

    def vectors(self, inputs: WindowInputs) -> Tensor:
        """Filled windows, what of them is visible, and where the region is, ``[n, F]``."""
        return self.encoder.vectors(inputs)

    def embed(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``; for a model of tokens the mean state over its patches.

        Raises
        ------
        FIMPError
            If the model is not trained, and has no states.
        """
        if self.input in ("none", "rule"):
            raise FIMPError("embed: a model that is not trained has no states; use another model")
        states = self._states(inputs, graph)
        return states.mean(1) if self.input == "tokens" else states

    def attention(
        self, inputs: WindowInputs, graph: Subgraph, keep: Keep, layer: int | None = None
    ) -> Iterator[EdgeAttention]:
        """Share of regions in what a region hears; see :meth:`fimp.tasks.base.Network.attention`.

        There is one row and one column, whose names are positions in the subgraph: what comes along an edge, averaged
        over the patches of the receiver (:meth:`fimp.models.fimp_rounds.FIMPRounds.attention`).
        """
        if layer is not None or self.input != "tokens":
            yield from super().attention(inputs, graph, keep, layer)
            return
        assert isinstance(self.model, FIMPRounds)
        edges, shares = self.model.attention(*self._conversation(inputs, graph))
        wanted = keep(edges)
        edges, weight = edges[:, wanted], shares[wanted].mean(1)
        yield EdgeAttention(weight[:, None, None], edges[1, :, None], edges[0, :, None], edges)

    def _states(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        if self.input == "vectors":
            out: Tensor = self.model(self.vectors(inputs), graph)
            return out
        states: Tensor = self.model(*self._conversation(inputs, graph))
        return states

    def _conversation(
        self, inputs: WindowInputs, graph: Subgraph
    ) -> tuple[Tokens, Tensor, Subgraph, tuple[Tensor, Tensor]]:
        """What a model of tokens takes: what regions show, a first guess, the graph, and names."""
        tokenizer = self.encoder.tokenizer
        guesses = tokenizer(inputs._replace(hidden=torch.ones_like(inputs.hidden)))
        return self.encoder.told(inputs), guesses, graph, tokenizer.names(inputs)


class GaussianNetwork(Network):
    """Conditional means of whole windows; needs all regions of a window, whichever of them are asked for.

    Parameters
    ----------
    model
        The fitted model.
    regions
        R.
    windows
        Gives some windows as evaluation sees them (:class:`fimp.tasks.fmri.View`).
    """

    model: Gaussian

    def __init__(self, model: Gaussian, regions: int, windows: Callable[[NDArray[np.int64]], Any]) -> None:
        super().__init__()
        self.model, self.regions, self.windows, self.hops = model, regions, windows, 0
        self.bias = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """Expected patches of the seeds, ``[seeds, P, L]``, in units of what is seen of them."""
        nodes = np.asarray(graph.nodes)[: graph.num_seeds]
        windows, place = np.unique(nodes // self.regions, return_inverse=True)
        filled = expected(self.model, self.windows(windows))
        return filled[torch.from_numpy(place), torch.from_numpy(nodes % self.regions)].to(inputs.values)

    def embed(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """There is no such vector.

        Raises
        ------
        FIMPError
            Always.
        """
        raise FIMPError("embed: a model that is not trained has no states; use another model")


def expected(model: Gaussian, view: Any) -> Tensor:
    """Conditional means of whole windows, ``[m, R, P, L]``."""
    signal, hidden = torch.from_numpy(view.signal), torch.from_numpy(np.ascontiguousarray(view.hidden))
    visible = (~hidden)[..., None].expand_as(signal)
    done = [model(one.flatten(1), shown.flatten(1)) for one, shown in zip(signal, visible, strict=True)]
    return torch.stack(done).view_as(signal)


def fitted_gaussian(
    choice: ModelChoice, training: Sequence[NDArray[np.float32]], validation: Any, window: int
) -> Gaussian:
    """A Gaussian of training recordings; how far it is shrunk and tapered is what validates best.

    Parameters
    ----------
    choice
        ``gaussian``.
    training
        Stretches of recordings in units of their regions, ``[R, any length]`` each.
    validation
        Windows as evaluation sees them (:class:`fimp.tasks.fmri.View`).
    window
        Time points of a window.
    """
    signals = [torch.from_numpy(signal) for signal in training]
    hidden = torch.from_numpy(np.ascontiguousarray(validation.hidden))
    truth = torch.from_numpy(validation.signal)
    # In the units of the scaled signal, as the score is.
    weight = torch.from_numpy(validation.spread).square()[:, :, None, None]
    best: tuple[float, Gaussian] | None = None
    for values in itertools.product(*_GRID.values()):
        model = choice.spec.build(choice.hyperparameters, len(signals[0]), window)
        assert isinstance(model, Gaussian)
        model.fit(signals, **dict(zip(_GRID, values, strict=True)))
        error = float((weight * (expected(model, validation) - truth).square())[hidden].sum())
        if best is None or error < best[0]:
            best = error, model
    assert best is not None
    return best[1]

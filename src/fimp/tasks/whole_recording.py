"""BrainLM as its authors use it: all regions of a window are one sequence, of which it sees what is visible."""

from __future__ import annotations

import torch
from torch import Tensor

from fimp.data.subgraph import Subgraph
from fimp.errors import FIMPError
from fimp.foundation.brainlm import BrainLM
from fimp.foundation.masking import Masked, restore_tokens
from fimp.models.foundation import load_foundation, prepare
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network
from fimp.tokenizers.window import WindowInputs


class WholeRecordingNetwork(Network):
    """Predicts hidden patches with encoder and decoder of a model of whole recordings.

    Nothing is added to the model: untrained, it predicts what it was pretrained for.

    Parameters
    ----------
    choice
        ``fm:FOLDER,scope=graph``.
    regions, patches, length
        Regions of a window, patches of a region, and time points of a patch.

    Raises
    ------
    FIMPError
        If the checkpoint cannot be loaded, is no BrainLM, or its patches do not fit.
    """

    def __init__(self, choice: ModelChoice, regions: int, patches: int, length: int) -> None:
        super().__init__()
        foundation = choice.spec.foundation
        assert foundation is not None
        model = load_foundation(foundation)
        if not isinstance(model, BrainLM):
            raise FIMPError(f"--models: {foundation.folder} is a {model.family} model; scope=graph needs a BrainLM")
        # Says what does not fit.
        model.recording_reader(patches, length)
        prepare(model, model.stack, foundation, choice.hyperparameters)
        # One hop to the first region of the window and one to all others.
        self.brainlm, self.regions, self.hops = model, regions, 2

    def forward(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """Predicted patches of the seeds, ``[seeds, P, L]``, in units of what is seen of them."""
        place, whole = self._windows(inputs, graph)
        signal, xyz, ratio, order = self._shown(whole)
        logits = self.brainlm.reconstruct(signal, xyz, ratio, order).logits.reshape(whole.values.shape)
        return logits[place]

    def embed(self, inputs: WindowInputs, graph: Subgraph) -> Tensor:
        """One vector per seed, ``[seeds, D]``: the mean state over its visible patches."""
        place, whole = self._windows(inputs, graph)
        signal, xyz, ratio, order = self._shown(whole)
        masked: Masked = self.brainlm.mask_tokens(self.brainlm.embed(signal, xyz), ratio, order)
        latent = self.brainlm.latent(masked)[:, 1:]
        nothing = latent.new_zeros(1, 1, latent.size(2))
        states = restore_tokens(latent, nothing, masked.ids_restore).view(len(whole.values), -1, latent.size(2))
        count = (~masked.mask).view(len(whole.values), -1).sum(1, keepdim=True)
        return (states.sum(1) / count)[place]

    def _windows(self, inputs: WindowInputs, graph: Subgraph) -> tuple[Tensor, WindowInputs]:
        """Where the seeds are among the regions of whole windows, and these, window by window in their order."""
        order = torch.as_tensor(graph.nodes, device=inputs.values.device).argsort()
        assert len(order) % self.regions == 0
        return order.argsort()[: graph.num_seeds], WindowInputs(*(part[order] for part in inputs))

    def _shown(self, whole: WindowInputs) -> tuple[Tensor, Tensor, float, Tensor]:
        """Arguments of :meth:`BrainLM.reconstruct` that remove what is hidden and leave the rest in its order."""
        values = torch.where(whole.hidden[:, :, None], 0.0, whole.values)
        signal = values.flatten(1).unflatten(0, (-1, self.regions))
        times = whole.values.size(2) // self.brainlm.patch
        hidden = whole.hidden.repeat_interleave(times, 1).view(len(signal), -1)
        count = hidden.size(1)
        # All regions hide as many patches, and so do all windows.
        kept = count - int(hidden[0].sum())
        order = torch.arange(count, device=values.device) + count * hidden
        return signal, whole.xyz.unflatten(0, (-1, self.regions)), max(0.0, 1.0 - (kept + 0.5) / count), order

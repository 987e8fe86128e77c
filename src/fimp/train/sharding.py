"""Weights, gradients and optimizer states shared out over processes that train together (FSDP, arXiv 2304.11277).

Each process keeps an equal part of every weight, of its gradient, of its moving average and of its optimizer's states.
The weights of a transformer layer are made whole while the layer runs, forward or backward, all others for a whole
forward or backward pass. Training starts from a whole network and ends with one; checkpoints hold whole weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from fimp.errors import FIMPError
from fimp.nn.foundation_message import FoundationMessage
from fimp.nn.transformer_layer import TransformerLayer
from fimp.train import processes

N = TypeVar("N", bound=nn.Module)


def check_shard(shard: bool) -> None:
    """Refuse to share weights out where there is nobody to share them with.

    Raises
    ------
    FIMPError
        If there is one process.
    """
    if shard and processes.count() == 1:
        raise FIMPError(
            "--shard: shares weights out over processes, and there is one; start several with torchrun "
            "(docs/scaling.md), or leave it out"
        )


def shard(network: nn.Module, device: torch.device) -> None:
    """Leave a process its part of the weights of a network, in place; all processes call it with equal networks.

    Parameters
    ----------
    network
        Whole, on the device. It runs as before, if all processes run it equally often, and use the same of its weights.
    device
        Where it is.
    """
    mesh = init_device_mesh(device.type, (processes.count(),))
    for layer in _layers(network):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        for name in ("tell", "hear"):
            register_fsdp_forward_method(layer, name)
    # Between two steps, what looks at weights has to find the parts and not what a validation made of them.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """Layers that run equally often in all processes.

    With ``aggregate="final"`` a layer runs once for every chunk of edges, of which processes have different numbers.
    """
    messages = (module for module in network.modules() if isinstance(module, FoundationMessage))
    per_edge = {id(part) for message in messages if message.aggregate == "final" for part in message.modules()}
    for module in network.modules():
        if isinstance(module, TransformerLayer) and id(module) not in per_edge:
            yield module


@torch.no_grad()
def gather(network: nn.Module, into: N) -> N:
    """Copy the weights of a network that was shared out into a whole one; all processes do.

    Parameters
    ----------
    network
        From :func:`shard`.
    into
        Such a network as it was before, on any device; it is returned.
    """
    target = into.state_dict()
    for name, tensor in network.state_dict().items():
        target[name].copy_(_whole(tensor))
    return into


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor on the device of a weight, and shared out as that is."""
    tensor = tensor.to(weight.device)
    if not isinstance(weight, DTensor):
        return tensor
    # All processes have the same tensor; a copy of the part, since a view would keep the whole.
    return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None).clone()


class ShardedStrategy(DDPStrategy):
    """Lightning's strategy for processes that hold parts of the weights; checkpoints hold whole ones."""

    def configure_ddp(self) -> None:
        """Share the network out, after a checkpoint was read and before optimizers are made."""
        assert self.lightning_module is not None
        network = self.lightning_module.network
        assert isinstance(network, nn.Module)
        shard(network, self.root_device)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Gather everything, tensor by tensor, in the main memory of the process that writes."""
        super().save_checkpoint(tree_map(self._gathered, checkpoint), filepath, storage_options)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        """Leave this process its part of the optimizer's states."""
        for optimizer, stored in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            for index, state in stored["state"].items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weights[index].shape:
                        state[name] = like(value, weights[index])
        super().load_optimizer_state_dict(checkpoint)

    def teardown(self) -> None:
        """Let go of optimizers, and leave parts of weights on the device on which processes share them."""
        self.optimizers, self.lr_scheduler_configs = [], []
        assert self.cluster_environment is not None
        assert self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    def _gathered(self, value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        # Every process takes part in making it whole.
        whole = _whole(value)
        return whole.cpu() if self.is_global_zero else None


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

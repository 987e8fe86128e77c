"""Several networks as one: where nodes are few, what one network learns by chance is most of its error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fimp.data.subgraph import Subgraph
from fimp.tasks.attention import EdgeAttention, Keep
from fimp.tasks.base import Network

#: Networks that a model consists of at most where nobody says how many, and training nodes that they see together in an
#: epoch at most, if they are more than one.
MOST_MEMBERS, NODES_PER_EPOCH = 4, 1000


class Members(Network):
    """The mean of networks that start from different weights (a deep ensemble, arXiv 1612.01474).

    They see the same batches, and each is taught by its own loss: a mean that is taught as a whole leaves every member
    free to be wrong as long as others make up for it.

    Parameters
    ----------
    members
        Networks of one task, at least one.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.hops, self.notes = members[0].hops, members[0].notes

    @property
    def pretraining_hops(self) -> int:
        """As that of its members."""
        return self._all[0].pretraining_hops

    @property
    def encoder(self) -> nn.Module:
        """Tokenizer of the first member, which :meth:`embed` is of."""
        found: nn.Module = self._all[0].get_submodule("encoder")
        return found

    @property
    def _all(self) -> list[Network]:
        return [member for member in self.members if isinstance(member, Network)]

    def forward(self, inputs: Any, graph: Subgraph) -> Any:
        """The mean of predictions; in training a list of all."""
        predictions = [member(inputs, graph) for member in self.members]
        return predictions if self.training else torch.stack(predictions).mean(0)

    def embed(self, inputs: Any, graph: Subgraph) -> Tensor:
        """Vectors of the first member: those of others lie in spaces of their own, and a mean would lie in none."""
        return self._all[0].embed(inputs, graph)

    def attention(self, inputs: Any, graph: Subgraph, keep: Keep, layer: int | None = None) -> Iterator[EdgeAttention]:
        """Mean over members."""
        for parts in zip(*(member.attention(inputs, graph, keep, layer) for member in self._all), strict=True):
            yield parts[0]._replace(weight=torch.stack([part.weight for part in parts]).mean(0))

    def pretraining_loss(self, inputs: Any, graph: Subgraph) -> Tensor:
        """Mean over members."""
        return torch.stack([member.pretraining_loss(inputs, graph) for member in self._all]).mean()


def default_members(nodes: int) -> int:
    """How many networks a model is, so that training takes about as long with few nodes as with many.

    Parameters
    ----------
    nodes
        Training nodes.
    """
    return max(1, min(MOST_MEMBERS, NODES_PER_EPOCH // max(nodes, 1)))

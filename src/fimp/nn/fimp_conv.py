"""The message passing layer of FIMP."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fimp.errors import FIMPError
from fimp.nn.cross_attention import MessageCreator


class FIMPConv(nn.Module):
    r"""Message passing between nodes that are sequences of tokens (arXiv 2210.09475, section 3.2 and Algorithm 1).

    .. math::
        A_i = \mathrm{AGG}_{j \in N(i)}\; \mathrm{message}(H_i, H_j)

    The layer creates and aggregates messages and nothing else; residual, normalisation and feed-forward
    network are in :class:`fimp.nn.FIMPLayer`.

    Parameters
    ----------
    message
        A message creator: :class:`fimp.nn.CrossNodeAttention` or one made from a foundation model.
    aggr
        ``"mean"`` or ``"sum"``.
    add_self_loops
        Add an edge from every node to itself where it is missing, so that a node attends to its own
        tokens too. Not possible on bipartite input.

    Shapes
    ------
    - **input:** tokens ``[N, T, D]``, or a pair ``([N_src, S, D], [N_dst, T, D])`` for bipartite graphs;
      edge indices ``[2, E]``; token masks ``[N, T]``, or a pair of masks; edge weights ``[E]``; names of
      tokens as a pair ``([N_src, S, D], [N_dst, T, D])``, for message creators that know names.
    - **output:** ``[N, T, D]`` or ``[N_dst, T, D]``; zero at padded tokens and for nodes without in-edges.

    Raises
    ------
    FIMPError
        If ``aggr`` is unknown.
    """

    def __init__(self, message: MessageCreator, aggr: str = "mean", add_self_loops: bool = False) -> None:
        super().__init__()
        if aggr not in ("mean", "sum"):
            raise FIMPError(f"FIMPConv: aggr={aggr!r} is unknown; use 'mean' or 'sum'")
        self.message = message
        self.aggr = aggr
        self.add_self_loops = add_self_loops

    def reset_parameters(self) -> None:
        """Reset the message creator."""
        self.message.reset_parameters()

    def forward(
        self,
        h: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor,
        mask: Tensor | tuple[Tensor | None, Tensor | None] | None = None,
        edge_weight: Tensor | None = None,
        names: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Run the layer; arguments as under *Shapes*.

        Raises
        ------
        FIMPError
            If shapes do not fit, or self-loops are asked for on bipartite input.
        """
        h_src, h_dst = h if isinstance(h, tuple) else (h, h)
        mask_src, mask_dst = mask if isinstance(mask, tuple) else (mask, mask)
        if h_src.dim() != 3 or h_dst.dim() != 3:
            raise FIMPError(f"FIMPConv: h has {h_src.dim()} dimensions, wanted tokens [N, T, D]")
        if self.add_self_loops:
            if isinstance(h, tuple):
                raise FIMPError("FIMPConv: add_self_loops=True needs one set of nodes; got bipartite input")
            edge_index, edge_weight = add_missing_self_loops(edge_index, h_dst.size(0), edge_weight)
        named_src, named_dst = (None, None) if names is None else names
        told = self.message.tell(h_src, mask_src, named_src)
        return self.hear(h_dst, mask_dst, told, mask_src, edge_index, edge_weight, named_dst)

    def tell(self, h: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """What nodes say, whoever hears it: tensors ``[N, ...]`` of tokens ``[N, T, D]`` and mask ``[N, T]``."""
        return self.message.tell(h, mask)

    def hear(
        self,
        h: Tensor,
        mask: Tensor | None,
        told: tuple[Tensor, ...],
        mask_src: Tensor | None,
        edge_index: Tensor,
        edge_weight: Tensor | None = None,
        names: Tensor | None = None,
    ) -> Tensor:
        """Run the rest of the layer on what :meth:`tell` made of the sources, without adding self-loops.

        Parameters
        ----------
        h, mask, names
            Tokens ``[N_dst, T, D]``, mask ``[N_dst, T]`` and names of the destinations.
        told, mask_src
            What sources said, and their mask ``[N_src, S]``.
        edge_index, edge_weight
            As in :meth:`forward`.
        """
        out = self.message.hear(h, told, edge_index, mask_src, edge_weight, self.aggr, names)
        return out if mask is None else out.masked_fill(~mask[:, :, None], 0.0)

    def extra_repr(self) -> str:
        """Options for ``repr``."""
        return f"aggr={self.aggr!r}, add_self_loops={self.add_self_loops}"


def add_missing_self_loops(
    edge_index: Tensor, num_nodes: int, edge_weight: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Append a self-loop of weight 1 to every node that has none.

    Parameters
    ----------
    edge_index
        ``[2, E]``.
    num_nodes
        N.
    edge_weight
        ``[E]`` or None.

    Returns
    -------
    tuple
        ``edge_index [2, E + missing]`` and ``edge_weight [E + missing]`` or None.
    """
    missing = torch.ones(num_nodes, dtype=torch.bool, device=edge_index.device)
    missing[edge_index[0, edge_index[0] == edge_index[1]].long()] = False
    loops = missing.nonzero().view(1, -1).expand(2, -1).to(edge_index.dtype)
    if edge_weight is not None:
        edge_weight = torch.cat([edge_weight, edge_weight.new_ones(loops.size(1))])
    return torch.cat([edge_index, loops], dim=1), edge_weight

"""Nodes that are brain regions during a window: every patch of the signal is a token."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fimp.errors import FIMPError
from fimp.nn.positions import sin_cos_1d
from fimp.tokenizers.base import Tokens
from fimp.tokenizers.filling import fill_in

#: Octaves of sines and cosines of a coordinate, from one oscillation over about the whole brain.
_OCTAVES = 4
#: Size of a patch's values beside its place and time.
_VALUES = 0.5
#: Length of a region's profile.
PROFILE = 16


class WindowInputs(NamedTuple):
    """Windows of n regions, each in units of what is seen of it.

    Attributes
    ----------
    values
        What a model may see, ``[n, P, L]``: P patches of L time points, 0 where hidden.
    targets
        The whole signal, ``[n, P, L]``.
    hidden
        True = the patch is to be predicted, ``[n, P]``.
    spread
        The unit of values and targets, ``[n]``.
    noise
        Standard normal numbers, ``[n, P, L]``, for models that want hidden patches filled in with them.
    xyz
        Coordinates of the region as in its table, ``[n, 3]``.
    profile
        What the region did in training recordings (:func:`fimp.data.recording_graph.profiles`), ``[n, PROFILE]``.
    """

    values: Tensor
    targets: Tensor
    hidden: Tensor
    spread: Tensor
    noise: Tensor
    xyz: Tensor
    profile: Tensor

    def take(self, n: int) -> WindowInputs:
        """The first n nodes."""
        return WindowInputs(*(part[:n] for part in self))

    def to(self, device: torch.device) -> WindowInputs:
        """All parts on a device."""
        return WindowInputs(*(part.to(device) for part in self))


class RegionPlace(nn.Module):
    """What is known of regions, as numbers of the order of 1: ``[n, width]``.

    Coordinates, standardised over the regions of the parcellation, sines and cosines of these in several octaves, and
    profiles.

    Parameters
    ----------
    xyz
        Coordinates of all regions, ``[R, 3]``.
    """

    centre: Tensor
    size: Tensor

    #: Numbers per region.
    width = 3 * (1 + 2 * _OCTAVES) + PROFILE

    def __init__(self, xyz: Tensor) -> None:
        super().__init__()
        centre = xyz.double().mean(0)
        size = (xyz.double() - centre).square().mean().sqrt()
        self.register_buffer("centre", centre.float())
        # Regions may all be in one place, as where nobody knows their coordinates.
        self.register_buffer("size", size.float() if float(size) > 0.0 else torch.ones(()))

    def forward(self, content: WindowInputs) -> Tensor:
        """Features of the regions of some nodes."""
        place = (content.xyz - self.centre) / self.size
        octaves = torch.pi / 4 * 2.0 ** torch.arange(_OCTAVES, device=place.device)
        angle = (place[:, :, None] * octaves).flatten(1)
        return torch.cat([place, angle.sin(), angle.cos(), content.profile], 1)


class WindowTokenizer(nn.Module):
    """Patches of signals to tokens (arXiv 2210.09475, B.3).

    Half of a token's channels are a projection of the patch's values, or a mask token. The other half, so that what is
    said is not mixed with who says it, are a projection of what is known of the region (:class:`RegionPlace`) plus a
    fixed encoding of the patch's place in time, sines and cosines.

    Parameters
    ----------
    patches, length
        P and L.
    dim
        Width D, a multiple of 4 and of ``heads``.
    xyz
        Coordinates of all regions, ``[R, 3]``.
    heads
        Attention heads that look at names.

    Raises
    ------
    FIMPError
        If the width does not fit.
    """

    time: Tensor

    def __init__(self, patches: int, length: int, dim: int, xyz: Tensor, heads: int = 4) -> None:
        super().__init__()
        if dim < 4 or dim % 4 or dim % heads:
            raise FIMPError(f"WindowTokenizer: dim={dim}, wanted a multiple of 4 and of heads={heads}")
        self.values = nn.Linear(length, dim // 2)
        self.mask_token = nn.Parameter(torch.zeros(dim // 2))
        self.place = RegionPlace(xyz)
        self.where = nn.Linear(self.place.width, dim // 2)
        self.register_buffer("time", sin_cos_1d(patches, dim // 2), persistent=False)
        self.heads, self.width = heads, dim // heads
        # Sines and cosines of neighbouring places are nearly alike; names must not be.
        self.name = nn.Parameter(torch.randn(patches, self.width - min(PROFILE, self.width // 2)))
        if patches <= self.name.size(1):
            nn.init.orthogonal_(self.name)
        nn.init.normal_(self.values.weight, std=_VALUES * length**-0.5)
        nn.init.zeros_(self.values.bias)
        with torch.no_grad():
            # Told by contrasts between channels, values are apart from any offset that these have in common.
            self.values.weight.sub_(self.values.weight.mean(0))

    def forward(self, content: WindowInputs) -> Tensor:
        """Tokens of all patches, ``[n, P, D]``; the values of hidden ones are not looked at."""
        values = self.values(torch.where(content.hidden[:, :, None], 0.0, content.values))
        shown = torch.where(content.hidden[:, :, None], self.mask_token, values)
        return torch.cat([shown, self.where(self.place(content))[:, None] + self.time.to(shown.dtype)], 2)

    def values_of(self) -> Tensor:
        """The linear map ``[L, D]`` from tokens back to their values, or the nearest where D / 2 is below L."""
        back = torch.linalg.pinv(self.values.weight.detach())
        return torch.cat([back, torch.zeros_like(back)], 1)

    def names(self, content: WindowInputs) -> tuple[Tensor, Tensor]:
        """What tokens are apart from their values: time and region, and time alone, ``[n, P, D]`` each.

        Every attention head has a whole name. The product of two is the width of a head for a token and itself, half of
        it for one time in two regions that do nothing together, and likewise for two times of a region.
        """
        count, patches = content.hidden.shape
        time = functional.normalize(self.name, dim=1).expand(count, -1, -1)
        known = self.width - time.size(2)
        region = content.profile[:, None, :known].expand(-1, patches, -1)
        both, alone = torch.cat([time, region], 2), functional.pad(2**0.5 * time, (0, known))
        factor = (self.width / 2) ** 0.5
        return factor * both.repeat(1, 1, self.heads), factor * alone.repeat(1, 1, self.heads)


class WindowEncoder(nn.Module):
    """Windows of regions as a model wants them.

    Parameters
    ----------
    kind
        ``"tokens"`` or ``"vectors"``, as in :class:`fimp.models.ModelSpec`.
    patches, length
        P and L.
    dim, heads
        Width D and attention heads, for tokens.
    xyz
        Coordinates of all regions, ``[R, 3]``.
    fill
        How hidden patches are filled in, for vectors.

    Attributes
    ----------
    out_dim
        D for tokens, length of the vector for vectors.
    """

    def __init__(
        self, kind: str, patches: int, length: int, dim: int, xyz: Tensor, fill: str = "mean", heads: int = 4
    ) -> None:
        super().__init__()
        self.fill = fill
        if kind == "tokens":
            self.tokenizer = WindowTokenizer(patches, length, dim, xyz, heads)
            self.out_dim = dim
        else:
            self.place = RegionPlace(xyz)
            self.out_dim = patches * length + patches + self.place.width

    def filled(self, content: WindowInputs) -> Tensor:
        """Signals with hidden patches filled in, ``[n, P, L]``."""
        return fill_in(content.values, content.hidden, content.noise, self.fill)

    def vectors(self, content: WindowInputs) -> Tensor:
        """The filled signal, which patches of it are visible, and where the region is: ``[n, F]``."""
        visible = (~content.hidden).to(content.values.dtype)
        return torch.cat([self.filled(content).flatten(1), visible, self.place(content)], 1)

    def told(self, content: WindowInputs) -> Tokens:
        """Tokens of all patches ``h [n, P, D]``, hidden ones as mask tokens, with a mask of what is visible."""
        return Tokens(self.tokenizer(content), ~content.hidden)

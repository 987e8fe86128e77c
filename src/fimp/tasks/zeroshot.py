"""Embed images without any training, and ask a linear classifier what the embeddings know (paper table 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data

from fimp.data.image_graph import ImageOptions, read_images
from fimp.data.place_labels import PlaceReference
from fimp.errors import FIMPError
from fimp.tasks.base import TaskKind, register
from fimp.tasks.image import ImageTask, ImageTaskOptions


@dataclass(frozen=True)
class ZeroShotOptions(ImageTaskOptions):
    """Settings of the task.

    Attributes
    ----------
    patch_size, class_weights
        As in :class:`fimp.tasks.ImageTaskOptions`.
    embeddings
        Images that are embedded, at most; as in the paper.
    share
        Share of them on which the classifier is fitted; it is scored on the others.

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    embeddings: int = 400
    share: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embeddings < 20:
            raise FIMPError(f"--embeddings: {self.embeddings} is below 20; use 400, for instance")
        if not 0.0 < self.share < 1.0:
            raise FIMPError(f"--share: {self.share} is outside (0, 1); use 0.7, for instance")


class ZeroShotTask(ImageTask):
    """Nothing is trained but a linear classifier, on embeddings that untrained networks or pretrained models make.

    Images are drawn from the parts of the split of :class:`ImageTask`, those that the classifier is fitted on from
    training and validation, those that it is scored on from the test part: places stay apart.

    Parameters
    ----------
    data, seed, state
        As for :class:`ImageTask`.
    options
        Settings.
    """

    name: ClassVar[str] = "zeroshot"
    probes: ClassVar[bool] = True

    def __init__(
        self,
        data: Data,
        options: ZeroShotOptions = ZeroShotOptions(),
        seed: int = 0,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data, options, seed, state)
        if state is None:
            known = np.concatenate([self.split["train"], self.split["val"]])
            wanted = round(options.share * options.embeddings)
            fitted = self._some(known, wanted)
            self.split = {
                "train": fitted,
                "val": fitted,
                "test": self._some(self.split["test"], options.embeddings - wanted),
            }

    def _some(self, nodes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        order = np.random.default_rng([self.seed, 37]).permutation(nodes)
        return np.sort(order[:count])


register(
    TaskKind(
        ZeroShotTask.name,
        ImageOptions,
        ZeroShotOptions,
        PlaceReference,
        read_images,
        ZeroShotTask,
    )
)

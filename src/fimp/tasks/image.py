"""Classify located images from their pixels and their neighbours' (paper table 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from fimp.data.image_graph import ImageOptions, read_images
from fimp.data.pixels import colours
from fimp.data.place_labels import PlaceReference
from fimp.data.place_splits import split_places
from fimp.errors import FIMPError
from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, TaskKind, register
from fimp.tasks.classification import CLASS_WEIGHTS, ClassificationNetwork, ClassificationTask, Labelled
from fimp.tasks.foundation import FoundationClassificationNetwork, read_image_model
from fimp.tokenizers.patch import ImageInputs, PatchEncoder

#: Rings of neighbours whose images foundation models are told of: as many as graph neural networks of two layers hear.
RINGS = 2
#: Learning rate of foundation models, whose first answer is that of a linear classifier on what they know.
FOUNDATION_LR = 1e-4


@dataclass(frozen=True)
class ImageTaskOptions:
    """Settings of the task.

    Attributes
    ----------
    patch_size
        Side of a patch of ``fimp-base``, in pixels; a vision transformer has its own.
    class_weights
        ``none``, or ``balanced``: rare classes weigh as much as frequent ones in the loss.

    Raises
    ------
    FIMPError
        If a value is unknown or outside its range.
    """

    patch_size: int = 16
    class_weights: str = "none"

    def __post_init__(self) -> None:
        if self.patch_size < 1:
            raise FIMPError(f"--patch-size: {self.patch_size} is below 1; use 16, for instance")
        if self.class_weights not in CLASS_WEIGHTS:
            raise FIMPError(f"--class-weights: {self.class_weights!r} is unknown; use {' or '.join(CLASS_WEIGHTS)}")


class ImageTask(ClassificationTask):
    """Predict the class of an image; nothing of it is hidden (paper table 3, appendix B.1).

    In training, images are cropped at random and mirrored; evaluation sees their middle. Models of vectors are given a
    learned projection of the flattened pixels, ``fimp-base`` patches.

    Parameters
    ----------
    data
        From :func:`fimp.data.image_graph.read_images`.
    options
        Settings.
    seed
        Seed of split, views and weights.
    state
        :meth:`state` of the task that a model was trained on, for other images.

    Raises
    ------
    FIMPError
        If patches do not fill the images, or images cannot be split.
    """

    name: ClassVar[str] = "image"

    def __init__(
        self,
        data: Data,
        options: ImageTaskOptions = ImageTaskOptions(),
        seed: int = 0,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.data, self.options, self.seed = data, options, seed
        self.side = data.image_size
        if self.side % options.patch_size:
            raise FIMPError(
                f"--patch-size: {options.patch_size} does not divide --image-size {self.side}; "
                "use 16 and 96, for instance"
            )
        self.split = {} if state else split_places(data, seed)
        if state is None:
            mean, std = colours(data.pixels, self.split["train"])
            state = {"mean": torch.tensor(mean), "std": torch.tensor(std)}
        super().__init__(data.num_classes, options.class_weights, state)

    @property
    def num_features(self) -> int:
        """Values of a pixel, times pixels."""
        return 3 * self.side**2

    def inputs(self, nodes: NDArray[np.int64], epoch: int) -> Labelled:
        """Views of some images in an epoch, and their classes."""
        views = torch.from_numpy(self.data.pixels.views(nodes, self.side, epoch, self.seed)).permute(0, 3, 1, 2)
        labels: Tensor = self.data.y[torch.from_numpy(nodes)]
        return Labelled(ImageInputs(views), labels)

    def with_defaults(self, choice: ModelChoice) -> ModelChoice:
        """As :meth:`fimp.tasks.Task.with_defaults`; foundation models are trained at :data:`FOUNDATION_LR`."""
        h = choice.hyperparameters
        own = choice.spec.foundation is not None and h == choice.spec.defaults
        return replace(choice, hyperparameters=replace(h, lr=FOUNDATION_LR)) if own else choice

    def starts_with_probe(self, choice: ModelChoice) -> bool:
        """So do foundation models: a head that knows nothing first distorts what they know (Kumar et al., 2022)."""
        return choice.spec.foundation is not None

    def network(self, choice: ModelChoice) -> Network:
        """The model with a head for the classes.

        Raises
        ------
        FIMPError
            If it is a foundation model that cannot be loaded, or reads no images.
        """
        if choice.spec.foundation is not None:
            return FoundationClassificationNetwork(*read_image_model(choice), self.log_prior, rings=RINGS)
        if choice.gene_table is not None:
            raise FIMPError(f"--models: {choice.name} has embeddings of genes, and images have none")
        choice = choice.for_data(int(self.measured["class_count"].sum()))
        h, encoder = choice.hyperparameters, None
        if choice.spec.input != "none":
            encoder = PatchEncoder(
                choice.spec.input,
                self.measured["mean"],
                self.measured["std"],
                self.side,
                self.options.patch_size,
                h.dim,
                h.decided_dropout,
            )
        return ClassificationNetwork(choice, encoder, self.log_prior)


register(
    TaskKind(
        ImageTask.name,
        ImageOptions,
        ImageTaskOptions,
        PlaceReference,
        read_images,
        ImageTask,
    )
)

"""Classification of located images for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fimp.errors import FIMPError
from fimp.estimators.base import GraphModel
from fimp.tasks.image import ImageTask


class ImageModel(GraphModel):
    """Predict the class of a located image from its pixels and its neighbours.

    Parameters
    ----------
    data
        A table of images, a folder of them, or ``"simulated_images"``; see :func:`fimp.data.read_places`.
    model
        A name that ``fimp compare image --models`` knows, such as ``"fimp-base"``, ``"sage"`` or ``"fimp:FOLDER"``
        with the folder of a vision transformer.
    seed
        Seed of split, views and weights.
    **options
        Any field of :class:`fimp.data.image_graph.ImageOptions` (``label``, ``split_by``, ``image_size``, ...),
        :class:`fimp.tasks.ImageTaskOptions` (``patch_size``, ...), :class:`fimp.train.TrainOptions` or
        :class:`fimp.models.Hyperparameters`.

    Raises
    ------
    FIMPError
        If the images, their labels or an option cannot be used.

    Examples
    --------
    Run by the tests, in a cache of their own:

    >>> import fimp
    >>> model = fimp.ImageModel("simulated_images", model="sage", image_size=32, patch_size=4)  # doctest: +SKIP
    >>> model.fit(max_epochs=5).evaluate()  # doctest: +SKIP
    >>> model.predict("other_images.csv")  # doctest: +SKIP
    """

    task_name: ClassVar[str] = ImageTask.name
    nodes: ClassVar[str] = "images"
    task: ImageTask

    def __init__(self, data: str | Path, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        if not isinstance(data, (str, Path)):
            raise FIMPError(f"ImageModel: data is a {type(data).__name__}, wanted the path of a table or folder")
        super().__init__(data, model, seed, **options)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of :meth:`predict_proba`'s columns."""
        return list(self._reference.class_names)

    def predict(self, data: str | Path | None = None) -> NDArray[np.str_]:
        """The most probable class of every image, labelled or not.

        Parameters
        ----------
        data
            Other images, one or more; those given at construction by default. They need neither labels nor the columns
            that the split is made of; images that cannot be read are left out (``task_on(data).data.paths``).

        Returns
        -------
        ndarray
            ``[images]`` class names.
        """
        return np.array(self.classes)[self.predict_proba(data).argmax(axis=1)]

    def predict_proba(self, data: str | Path | None = None) -> NDArray[np.float32]:
        """Probability of every class for every image, ``[images, classes]``; see :meth:`predict`."""
        return torch.from_numpy(self._outputs(data, self.network)).softmax(1).numpy()

    def _contents(self) -> str:
        data = self.data
        return f"{data.num_nodes} images, {len(self.classes)} classes, {data.edge_index.size(1)} edges"

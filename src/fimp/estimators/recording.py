"""Reconstruction of brain recordings for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimp.data.masking import EVALUATION
from fimp.data.scaling import centred, unusable_regions
from fimp.errors import FIMPError
from fimp.estimators.base import GraphModel
from fimp.tasks.base import Network
from fimp.tasks.fmri import FMRITask
from fimp.train.evaluation import evaluate, outcomes

#: What a model is given: a folder of recordings, a file, or several files.
Source = str | Path | Sequence[str | Path]


class Reconstruction(NamedTuple):
    """A recording, what was hidden of it, and what a model made of the rest.

    Attributes
    ----------
    name
        The recording's file.
    signal
        What was recorded, ``[R, T]`` float32.
    hidden
        True = the model did not see the value, ``[R, T]``.
    predicted
        The signal with the model's prediction where it is hidden, ``[R, T]`` float32.
    """

    name: str
    signal: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    predicted: NDArray[np.float32]


class RecordingModel(GraphModel):
    """Fill in hidden patches of brain recordings from what is visible of a region and its neighbours.

    Parameters
    ----------
    data
        A folder of recordings with ``regions.csv``, a file, several files, or ``"simulated_recordings"``; see
        :func:`fimp.data.read_recordings`.
    model
        A name that ``fimp compare fmri --models`` knows, such as ``"fimp-base"``, ``"gcn+interpolate"``,
        ``"gaussian"`` or ``"fimp:FOLDER"`` with the folder of a BrainLM.
    seed
        Seed of split, masks and weights.
    **options
        Any field of :class:`fimp.data.recording_graph.RecordingOptions` (``regions``, ``atlas``, ``window``, ``patch``,
        ``graph``, ``band_pass``, ...), :class:`fimp.tasks.FMRIOptions` (``mask_ratio``, ``masking``, ``split``),
        :class:`fimp.train.TrainOptions` or :class:`fimp.models.Hyperparameters`.

    Raises
    ------
    FIMPError
        If the recordings or an option cannot be used.

    Examples
    --------
    Run by the tests, in a cache of their own:

    >>> import fimp
    >>> model = fimp.RecordingModel("simulated_recordings", model="sage", window=80, patch=10)  # doctest: +SKIP
    >>> model.fit(max_epochs=5).evaluate()  # doctest: +SKIP
    >>> one = model.predict()[0]  # doctest: +SKIP
    >>> ((one.predicted - one.signal)[one.hidden] ** 2).mean()  # doctest: +SKIP
    """

    task_name: ClassVar[str] = FMRITask.name
    nodes: ClassVar[str] = "recordings"
    task: FMRITask

    def __init__(self, data: Source, model: str = "fimp-base", seed: int = 0, **options: Any) -> None:
        paths = [data] if isinstance(data, (str, Path)) else data
        if not (isinstance(paths, (list, tuple)) and paths and all(isinstance(one, (str, Path)) for one in paths)):
            raise FIMPError(
                f"RecordingModel: data is a {type(data).__name__}, wanted the path of a folder or file of recordings, "
                "or several; write arrays with numpy.savez(FILE, signal=...)"
            )
        super().__init__(data, model, seed, **options)

    @property
    def parts(self) -> dict[str, list[str]]:
        """Files of the recordings in each part of the split; empty for recordings that it was not trained on.

        With ``split="time"``, each recording is in all parts.
        """
        places, items = self.task.windows.places, self.data.recordings.recordings
        return {
            part: [items[index].name for index in np.unique(places.recording[places.part == part]).tolist()]
            for part in self.task.split
        }

    def task_on(self, source: Source | None) -> FMRITask:
        """The task on whole recordings, in windows side by side: other ones, or for None those of the model.

        Raises
        ------
        FIMPError
            If the model cannot use the recordings.
        """
        if source is not None or not self.task.split:
            task = super().task_on(source)
        else:
            config = self.config
            task = config.kind.make(self.data, config.options, config.seed, self.task.state())
        assert isinstance(task, FMRITask)
        return task

    def evaluate(self, part: str = "test", data: Source | None = None) -> dict[str, float]:
        """Mean squared error and R2 of hidden patches, on the scaled signal.

        Parameters
        ----------
        part
            ``"train"``, ``"val"`` or ``"test"``, of the recordings given at construction.
        data
            Other recordings of the same regions, all of which then count.

        Raises
        ------
        FIMPError
            If there is no such part, or the model cannot use the recordings.
        """
        if data is None:
            return super().evaluate(part)
        task = self.task_on(data)
        nodes = np.arange(task.data.num_nodes)
        return evaluate(task, self.choice, self._network_on(task), nodes, self.config.train)

    def predict(self, data: Source | None = None, scaled: bool = False) -> list[Reconstruction]:
        """Recordings with hidden patches filled in.

        Recordings are cut into windows that lie side by side; the last one of a recording ends with it, and counts
        where no window was before. What is hidden is drawn once, as for evaluation (``mask_ratio``, ``masking``,
        ``seed``). Offset and trend of a region, and the scale of training recordings, are taken off before and put
        back afterwards: they are measured on the whole recording, and no prediction of the model.

        Parameters
        ----------
        data
            Other recordings of the same regions; all of those given at construction by default, also those that
            train (:attr:`parts`).
        scaled
            Whether values are given as the model sees them and scores are measured: centred, detrended, and divided by
            the inter-quartile range of training recordings. By default they are in the units of the file, after the
            band-pass filter where there is one.

        Returns
        -------
        list of Reconstruction
            One per recording, in the order of ``task_on(data).recordings.recordings``. Regions that say nothing,
            constant or with NaN, are NaN (0 where ``scaled``).

        Raises
        ------
        FIMPError
            If the model cannot use the recordings.
        """
        task = self.task_on(data)
        found, items, scale = self._reconstructions(task), task.recordings.recordings, task.windows.scale
        if scaled:
            return list(found)
        out = []
        for one, item in zip(found, items, strict=True):
            back = item.signal - centred(item.signal, scale.detrend)
            back[unusable_regions(item.signal)] = np.nan
            signal, predicted = ((scale.undo(part) + back).astype(np.float32) for part in (one.signal, one.predicted))
            out.append(Reconstruction(one.name, signal, one.hidden, predicted))
        return out

    def embed(self, source: Source | None = None) -> NDArray[np.float32]:
        """One vector per region and window, ``[windows, R, D]``, with nothing hidden.

        Windows are those of :meth:`predict`: ``task_on(source).windows.places`` says which recording each is in
        (``recording``) and where it begins (``start``).

        Parameters
        ----------
        source
            Other recordings of the same regions; all of those given at construction by default.

        Raises
        ------
        FIMPError
            If the model cannot use the recordings, or is a rule, which has no such vectors.
        """
        found = super().embed(source)
        return found.reshape(-1, self.task.regions, found.shape[1])

    def _reconstructions(self, task: FMRITask) -> Iterator[Reconstruction]:
        """Every recording of a task, scaled."""
        windows, places = task.windows, task.windows.places
        nodes = np.arange(task.data.num_nodes)
        seeds, predicted, _ = outcomes(task, self.choice, self._network_on(task), nodes, self.config.train)
        # Batches come in any order, patches of a node in their own.
        patches = predicted[seeds.argsort(stable=True)].float().numpy()
        for index, item in enumerate(task.recordings.recordings):
            chosen = np.flatnonzero(places.recording == index)
            hidden = task.view(chosen, EVALUATION).hidden
            filled = windows.read(chosen, EVALUATION).reshape(*hidden.shape, task.length)
            filled[hidden], patches = patches[: hidden.sum()], patches[hidden.sum() :]
            signal, done = windows.signals[index], 0
            out, unseen = signal.copy(), np.zeros(signal.shape, bool)
            for row, start in enumerate(places.start[chosen].tolist()):
                new = slice(done, start + windows.window)
                out[:, new] = filled[row].reshape(task.regions, -1)[:, done - start :]
                unseen[:, new] = hidden[row].repeat(task.length, axis=1)[:, done - start :]
                done = new.stop
            yield Reconstruction(item.name, signal, unseen, out)

    def _network_on(self, task: FMRITask) -> Network:
        """The trained network; rules look into the windows of the task that they were made for."""
        if task is self.task:
            return self.network
        network = task.network(self.choice).eval()
        network.load_state_dict(self.network.state_dict())
        return network

    def _contents(self) -> str:
        items = self.data.recordings.recordings
        subjects = len({item.subject for item in items})
        return f"{len(items)} recordings of {subjects} subjects, {self.task.regions} regions"

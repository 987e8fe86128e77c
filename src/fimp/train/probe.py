"""A linear classifier on the embeddings of a network: all that is trained, or where training begins."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, Task
from fimp.tasks.classification import ClassificationTask
from fimp.train.loader import evaluation_loader, sampler_for

#: Inverse strengths of the penalty that are tried, and folds of the training nodes on which they are.
_PENALTIES, _FOLDS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0), 5
#: Log likelihood below which a wrong answer is not more wrong.
_IMPOSSIBLE = -20.0


@torch.no_grad()
def fit_probe(
    task: Task, choice: ModelChoice, network: Network, fanout: int, device: torch.device, most: int | None = None
) -> None:
    """Fit a logistic regression on standardised embeddings of training nodes, and put it into the network's head.

    How strongly its weights are held back is chosen on training nodes by cross-validation, images of one place in one
    fold, since models differ in how many directions their embeddings have.

    Parameters
    ----------
    task
        Says which nodes train, and their classes.
    choice, network
        The model; all but its head stays as it is.
    fanout
        As in :class:`fimp.train.TrainOptions`.
    device
        Where embeddings are computed.
    most
        Nodes on which the classifier is fitted at most, drawn by the task's seed; None takes all that train.
    """
    assert isinstance(task, ClassificationTask)
    nodes = np.sort(np.random.default_rng([task.seed, 41]).permutation(task.split["train"])[:most])
    was_training = network.training
    sampler = sampler_for(task, choice, network.hops, fanout)
    network.to(device).eval()
    vectors, labels, seen = [], [], []
    for batch in evaluation_loader(task, sampler, nodes):
        vectors.append(network.embed(batch.inputs.to(device), batch.graph.to(device)).cpu())
        labels.append(batch.seeds.labels)
        seen.append(batch.graph.nodes[: batch.graph.num_seeds])
    network.cpu().train(was_training)
    x, y = torch.cat(vectors).double().numpy(), torch.cat(labels).numpy()
    head, prior = network.get_submodule("head"), network.get_buffer("log_prior")
    assert isinstance(head, nn.Linear)
    classes = np.unique(y)
    # The scores of the classes that are fitted add up to zero, so the largest is never below it.
    weight, bias = np.zeros((len(prior), x.shape[1])), np.full(len(prior), -np.log(len(y) + 1.0))
    if len(classes) == 1:
        bias[classes] = 0.0
    else:
        scaler = StandardScaler().fit(x)
        weighted = {int(label): float(task.class_weight[label]) for label in classes}
        # Products this small are slower on many threads, and far slower where other runs keep the cores busy.
        with threadpool_limits(1):
            penalty = _penalty(x, y, _groups(task, np.concatenate(seen)), weighted, task.seed)
            model = LogisticRegression(C=penalty, max_iter=2000, class_weight=weighted)
            found = model.fit(scaler.transform(x), y)
        # Of two classes there is one row, that of the second.
        both = len(classes) == 2
        rows = np.stack([-0.5 * found.coef_[0], 0.5 * found.coef_[0]]) if both else found.coef_
        offsets = 0.5 * found.intercept_[0] * np.array([-1.0, 1.0]) if both else found.intercept_
        weight[classes] = rows / scaler.scale_
        bias[classes] = offsets - weight[classes] @ scaler.mean_
    head.weight.copy_(torch.from_numpy(weight))
    own = head.bias if head.bias is not None else network.get_parameter("bias")
    own.copy_(torch.from_numpy(bias) - prior)


def _groups(task: Task, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """What may not be torn apart between folds, for each of some nodes: the images of a place."""
    places = task.data.get("places")
    if places is None:
        return nodes
    of_nodes: NDArray[np.int64] = places.numpy()[nodes]
    # No place is a place of its own.
    return np.where(of_nodes < 0, of_nodes.max(initial=0) + 1 + nodes, of_nodes)


def _penalty(
    x: NDArray[np.float64], y: NDArray[np.int64], groups: NDArray[np.int64], weights: dict[int, float], seed: int
) -> float:
    """The strongest penalty that is as good as the best, within a standard error, for nodes that it was not fitted on.

    Good is what makes their classes likely; weights that are no larger than they must be are not thrown off balance by
    the first steps of training that follows.
    """
    folds = min(_FOLDS, len(np.unique(groups)), int(np.bincount(y).max()))
    if folds < 2:
        return 1.0
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class may have fewer nodes than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        parts = [part for part in splitter.split(x, y, groups) if len(np.unique(y[part[0]])) > 1]
    if not parts:
        return 1.0

    def log_likelihoods(penalty: float) -> NDArray[np.float64]:
        out = []
        for fitted, left in parts:
            # A class that is not there to be fitted says nothing about penalties.
            left = left[np.isin(y[left], y[fitted])]
            here = {label: weights[label] for label in np.unique(y[fitted]).tolist()}
            model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500, class_weight=here))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x[fitted], y[fitted])
            if len(left):
                found = model.predict_log_proba(x[left])[np.arange(len(left)), np.searchsorted(model.classes_, y[left])]
                out.append(np.maximum(found, _IMPOSSIBLE))
        return np.concatenate(out) if out else np.zeros(1)

    found = [log_likelihoods(penalty) for penalty in _PENALTIES]
    best = max(found, key=np.mean)
    for penalty, here in zip(_PENALTIES, found, strict=True):
        worse = best - here
        if worse.mean() <= worse.std() / np.sqrt(len(worse)):
            return penalty
    raise AssertionError("the best is not worse than itself")

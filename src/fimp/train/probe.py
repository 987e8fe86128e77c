"""A linear classifier on the embeddings of a network that is not trained."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from fimp.models.registry import ModelChoice
from fimp.tasks.base import Network, Task
from fimp.train.loader import evaluation_loader, sampler_for


@torch.no_grad()
def fit_probe(task: Task, choice: ModelChoice, network: Network, fanout: int, device: torch.device) -> None:
    """Fit a logistic regression on standardised embeddings of training nodes, and put it into the network's head.

    Parameters
    ----------
    task
        Says which nodes train, and their classes.
    choice, network
        The model; all but its head stays as it is.
    fanout
        As in :class:`fimp.train.fit.TrainOptions`.
    device
        Where embeddings are computed.
    """
    sampler = sampler_for(task, choice, network.hops, fanout)
    network.to(device).eval()
    vectors, labels = [], []
    for batch in evaluation_loader(task, sampler, task.split["train"]):
        vectors.append(network.embed(batch.inputs.to(device), batch.graph.to(device)).cpu())
        labels.append(batch.seeds.labels)
    network.cpu()
    x, y = torch.cat(vectors).double().numpy(), torch.cat(labels).numpy()
    head, prior = network.get_submodule("head"), network.get_buffer("log_prior")
    assert isinstance(head, nn.Linear)
    classes = np.unique(y)
    weight, bias = np.zeros((len(prior), x.shape[1])), np.full(len(prior), -1e4)
    if len(classes) == 1:
        bias[classes] = 0.0
    else:
        scaler = StandardScaler().fit(x)
        found = LogisticRegression(max_iter=2000).fit(scaler.transform(x), y)
        # Of two classes there is one row, that of the second.
        rows = found.coef_ if len(classes) > 2 else np.stack([0 * found.coef_[0], found.coef_[0]])
        offsets = found.intercept_ if len(classes) > 2 else np.array([0.0, found.intercept_[0]])
        weight[classes] = rows / scaler.scale_
        bias[classes] = offsets - weight[classes] @ scaler.mean_
    head.weight.copy_(torch.from_numpy(weight))
    own = head.bias if head.bias is not None else network.get_parameter("bias")
    own.copy_(torch.from_numpy(bias) - prior)

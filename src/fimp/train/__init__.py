"""Training: sampling, loaders, checkpoints, resume."""

from fimp.train.fit import Fitted, TrainOptions, evaluate, fit
from fimp.train.sampler import NeighborSampler

__all__ = ["Fitted", "NeighborSampler", "TrainOptions", "evaluate", "fit"]

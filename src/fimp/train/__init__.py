"""Training: sampling, loaders, checkpoints, resume; inference over large graphs."""

from fimp.train.evaluation import evaluate
from fimp.train.fit import Fitted, fit
from fimp.train.inference.layerwise import layerwise_blocks, layerwise_inference
from fimp.train.options import TrainOptions
from fimp.train.sampler import NeighborSampler

__all__ = [
    "Fitted",
    "NeighborSampler",
    "TrainOptions",
    "evaluate",
    "fit",
    "layerwise_blocks",
    "layerwise_inference",
]

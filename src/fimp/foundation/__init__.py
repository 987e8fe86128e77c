"""Foundation models: folders in their published layouts, converted into message creators."""

from fimp.foundation import brainlm, geneformer, scgpt, vit  # each registers its family
from fimp.foundation.base import FoundationModel
from fimp.foundation.registry import FAMILIES, Family, load, register

__all__ = ["FAMILIES", "Family", "FoundationModel", "brainlm", "geneformer", "load", "register", "scgpt", "vit"]

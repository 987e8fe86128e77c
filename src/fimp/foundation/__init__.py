"""Foundation models: folders in their published layouts, converted into message creators."""

from fimp.foundation import brainlm, geneformer, scgpt, scgpt_files, vit  # families register themselves
from fimp.foundation.base import FoundationModel
from fimp.foundation.registry import FAMILIES, Family, load, register

__all__ = [
    "FAMILIES",
    "Family",
    "FoundationModel",
    "brainlm",
    "geneformer",
    "load",
    "register",
    "scgpt",
    "scgpt_files",
    "vit",
]

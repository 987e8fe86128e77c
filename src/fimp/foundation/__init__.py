"""Foundation models: folders in their published layouts, converted into message creators."""

from fimp.foundation import brainlm, geneformer, scgpt, vit
from fimp.foundation import scgpt_files as _files  # noqa: F401  (it registers scGPT; the others do so themselves)
from fimp.foundation.base import FoundationModel
from fimp.foundation.registry import FAMILIES, Family, load, register

__all__ = ["FAMILIES", "Family", "FoundationModel", "brainlm", "geneformer", "load", "register", "scgpt", "vit"]

"""Foundation models: folders in their published layouts, converted into message creators."""

from fimp.foundation.base import FoundationModel
from fimp.foundation.registry import FAMILIES, Family, load, register

__all__ = ["FAMILIES", "Family", "FoundationModel", "load", "register"]

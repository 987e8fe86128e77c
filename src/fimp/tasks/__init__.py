"""Tasks: what is trained and scored. A new one is a file and a line here."""

from fimp.tasks.base import Network, Task, TaskKind, known_tasks
from fimp.tasks.celltype import CellTypeOptions, CellTypeTask
from fimp.tasks.classification import ClassificationNetwork, ClassificationTask, Labelled
from fimp.tasks.expression import ExpressionNetwork, ExpressionOptions, ExpressionTask
from fimp.tasks.fmri import FMRIOptions, FMRITask
from fimp.tasks.image import ImageTask, ImageTaskOptions
from fimp.tasks.node import NodeTask, NodeTaskOptions
from fimp.tasks.zeroshot import ZeroShotOptions, ZeroShotTask

__all__ = [
    "CellTypeOptions",
    "CellTypeTask",
    "ClassificationNetwork",
    "ClassificationTask",
    "ExpressionNetwork",
    "ExpressionOptions",
    "ExpressionTask",
    "FMRIOptions",
    "FMRITask",
    "ImageTask",
    "ImageTaskOptions",
    "Labelled",
    "Network",
    "NodeTask",
    "NodeTaskOptions",
    "Task",
    "TaskKind",
    "ZeroShotOptions",
    "ZeroShotTask",
    "known_tasks",
]

"""Tasks: what is trained and scored. A new one is a file and a line here."""

from fimp.tasks.base import Network, Task
from fimp.tasks.expression import ExpressionNetwork, ExpressionOptions, ExpressionTask

__all__ = ["ExpressionNetwork", "ExpressionOptions", "ExpressionTask", "Network", "Task"]

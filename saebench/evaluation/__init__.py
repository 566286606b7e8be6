"""What every evaluation is made of: the task, its settings, and the report that collects what it measures.

Plug-ins import these names to define tasks of their own; ``examples/plugin`` shows one.
"""

from saebench.cards.rules import Ascending, Unique
from saebench.cards.settings import SampledSettings, Settings, TextSettings
from saebench.evaluation.report import Report, subset_name
from saebench.evaluation.task import GroupTask, SAEGroup, SAETask, Task, TaskOutput

__all__ = [
    "Ascending",
    "GroupTask",
    "Report",
    "SAEGroup",
    "SAETask",
    "SampledSettings",
    "Settings",
    "Task",
    "TaskOutput",
    "TextSettings",
    "Unique",
    "subset_name",
]

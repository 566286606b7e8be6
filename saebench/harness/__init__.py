"""Language models under interventions in EleutherAI's lm-eval: a model for it, tasks that need no network, and scores.

Importing this package does not import lm-eval, which is an optional dependency.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saebench.errors import UsageError

TASKS = Path(__file__).parent / "tasks"  # the include path, in the terms of lm-eval
TAG = "saebench"  # the tag of all tasks there


def require_lm_eval() -> None:
    """Raise UsageError unless lm-eval can be imported."""
    missing = [name for name in ("lm_eval", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} cannot be imported; install them with: pip install 'saebench[lm-eval]'"
        )


def register() -> None:
    """Register the model ``saebench`` with lm-eval. It imports torch only when it is used.

    Raises:
        UsageError: lm-eval cannot be imported.
    """
    require_lm_eval()
    import lm_eval.models  # noqa: F401  lm-eval registers its own models only while the registry is empty
    from lm_eval.api.registry import model_registry

    if "saebench" not in model_registry:
        model_registry.register("saebench", target="saebench.harness.model:SaebenchLM")


@contextmanager
def our_tasks(known: list[str]) -> Iterator[None]:
    """Let every TaskManager that is made in this context know saebench's tasks, and add all its names to ``known``.

    This is needed because lm-eval's command line takes only one include path, which is left to the user.
    """
    from lm_eval.tasks import TaskManager

    original = TaskManager.__init__

    def init(self: Any, *args: Any, include_path: Any = None, **kwargs: Any) -> None:
        own = include_path if isinstance(include_path, list | tuple) else [include_path] if include_path else []
        original(self, *args, include_path=[str(TASKS), *own], **kwargs)
        known.extend(self.all_tasks)

    TaskManager.__init__ = init
    try:
        yield
    finally:
        TaskManager.__init__ = original

"""The fixtures of the tests of tasks: diagnoses read the same tiny language models."""

from tests.tasks.conftest import context, loaded

__all__ = ["context", "loaded"]

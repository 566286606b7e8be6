"""The fixtures of the tests of tasks: passes are tested on the same tiny language models."""

from tests.tasks.conftest import context, loaded, plain

__all__ = ["context", "loaded", "plain"]

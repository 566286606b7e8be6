"""The fixtures of the tests of the runner: ``saebench.run`` is tested on the same tiny inputs."""

from tests.runner.conftest import _load_once, inputs, plug_in, run

__all__ = ["_load_once", "inputs", "plug_in", "run"]

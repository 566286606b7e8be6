"""A planted language model: a small transformer whose features are known, because its weights are set by hand.

It reads and writes made-up languages, and every task of saebench runs on it. `make` writes it, with its texts, into a
folder; `overrides` gives the settings with which a task runs on that folder; `load_planted` gives its features.
"""

from saebench.synthetic.planted.make import load_process, make, measure, verify
from saebench.synthetic.planted.overrides import TASKS, overrides
from saebench.synthetic.planted.truth import SITE, Planted, load_planted

__all__ = ["SITE", "TASKS", "Planted", "load_planted", "load_process", "make", "measure", "overrides", "verify"]

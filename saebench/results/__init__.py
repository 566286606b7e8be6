"""Records, where they lie, and the tables made of them.

``from saebench.results import load`` gives the table of records as a pandas DataFrame, as ``saebench table`` shows it.
"""

from saebench.results.load import DEFAULT_FOLDER, load

__all__ = ["DEFAULT_FOLDER", "load"]

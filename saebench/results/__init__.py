"""Records of results, the folders that hold them, and the tables and comparisons made from them.

`load` returns the table that ``saebench table`` prints, as a pandas DataFrame.
"""

from saebench.results.load import DEFAULT_FOLDER, load

__all__ = ["DEFAULT_FOLDER", "load"]

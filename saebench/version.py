"""The version of the package, in a module of its own because rooms at the bottom write it into records and caches."""

__version__ = "0.1.0"

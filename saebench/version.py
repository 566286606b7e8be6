"""The version of the package. It has a module of its own because the lowest rooms write it into records and caches."""

__version__ = "0.1.0"

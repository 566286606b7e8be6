"""Harnesses that try to lose, tear or change what the program keeps, and to make it fail in an undocumented way.

``python -m tests.soak`` runs them at full size and prints a table of figures; ``test_slice.py`` runs a small part.
"""

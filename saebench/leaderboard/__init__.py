"""Leaderboards: their definitions, the records that they count, ranks with uncertainty, and how boards are written."""

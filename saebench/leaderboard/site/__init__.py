"""A board as a site of static pages, which are made from its JSON values alone, and a server for it."""

from __future__ import annotations

from saebench.leaderboard.site.write import write_site, write_text

__all__ = ["write_site", "write_text"]

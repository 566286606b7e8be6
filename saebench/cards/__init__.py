"""Task cards, which are the published definitions of what is measured, and the settings that follow from them.

Nothing here needs torch: tables, leaderboards and ``saebench tasks`` read cards without loading an evaluation.
"""

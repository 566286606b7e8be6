"""Task cards, which are the published definitions of what is measured, and the types of the tasks' settings.

Nothing here needs torch: tables, leaderboards and ``saebench tasks`` read cards without loading an evaluation.
"""

"""Benchmarks of speed: of ``core`` against SAEBench, against bare matrix products, and as the work grows; and others.

``python -m benchmarks`` (``make bench``) measures and writes `benchmarks/results/*.json`, and
``scripts/render_performance.py`` renders them into docs/performance.md. Figures of different runs are never compared:
the two sides of a ratio are measured alternately in the same run.
"""

"""Speed of ``core``: against SAEBench, against bare matrix products, and as the work grows.

``python -m benchmarks`` (``make bench``) measures and writes `benchmarks/results/*.json`;
``scripts/render_performance.py`` renders them into docs/performance.md. No figure is compared across runs: what is
divided by one another was measured alternately in one run.
"""

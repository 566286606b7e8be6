"""Parity: what saebench computes from a file, beside what the library computes from it to which the format belongs.

``python -m benchmarks.parity`` writes an example of every format, loads it, and measures the largest differences of the
latents and of the reconstruction: from the formula in float64, and from the library's own forward pass on the same file
where the library is a package. The result is ``benchmarks/parity/results/parity.json``, from which
``scripts/render_adapters.py`` fills the tables of ``docs/adapters.md``.
"""

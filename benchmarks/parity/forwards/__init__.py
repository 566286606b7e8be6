"""The forward passes of libraries, one module for each library, as ``forward(name, case)``.

``name`` is that of a case of ``tests.sae.catalogue``. The result is ``(z, xhat)`` in the layout of saebench, which the
library computes from the files of the case.
"""

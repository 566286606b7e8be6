"""A plug-in for saebench: the task ``reconstruction_bias``, and an adapter for SAEs in NumPy files (``npz:``)."""

"""SAEs with several hook points: crosscoders and cross-layer transcoders, and the formats of their files.

`formats` and `schemes` are cheap to import; every other module of the package needs torch.
"""

"""A cache of tensors in memory and on disk, which several processes may share."""

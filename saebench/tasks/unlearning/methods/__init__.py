"""The methods that make a model forget: sweeps of changes at a hook, and changes of weights."""

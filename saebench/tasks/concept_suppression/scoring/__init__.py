"""What is measured: the effect of sweeps on the readout of concepts and on the perplexity of general text."""

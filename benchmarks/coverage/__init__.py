"""How often 95 % intervals hold the truth, by kind of number and number of units, in simulations."""

"""Inputs that somebody could hand to the program and that it must survive, and the judge of what it did with them."""

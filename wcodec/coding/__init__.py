"""Integer algorithms in numpy: the oracle that defines what every faster kernel must compute."""

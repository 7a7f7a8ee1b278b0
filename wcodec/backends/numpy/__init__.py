"""The verbs defined by numpy, a file for each topic: what every other backend must give, bit for bit."""

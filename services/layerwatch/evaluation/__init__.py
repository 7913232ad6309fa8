"""How good the detectors are: on recordings with labels, and on simulated months in which nothing is wrong."""

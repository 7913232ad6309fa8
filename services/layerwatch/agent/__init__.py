"""Beside the runtimes, one a host: publishes their timings with kafka-python. Light: no numpy, no faust."""

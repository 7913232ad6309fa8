"""Fits models and publishes them. The only place that imports torch."""

"""Scores layer timings: pure functions and small objects on arrays. No IO, no clock, no Kafka."""

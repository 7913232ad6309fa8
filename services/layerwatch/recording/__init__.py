"""Recordings: read, write, replay, record from Kafka."""

"""What is to be done about a service's alerts: a pure function of its state and an event. No clock, no IO, no Kafka."""

"""What every process of layerwatch shares: settings, logs, health and metrics, Kafka clients, the watchdog, streams."""

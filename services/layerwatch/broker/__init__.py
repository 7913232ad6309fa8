"""The local Kafka: a real single-node Apache Kafka, fetched with Maven, for one machine and for tests."""

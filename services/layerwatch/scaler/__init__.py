"""What autoscalers ask: load and decisions as a number of replicas, for Prometheus and for KEDA."""

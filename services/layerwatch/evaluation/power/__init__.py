"""How often a fault of known size is found: injected into healthy executions that really ran, over many seeds."""

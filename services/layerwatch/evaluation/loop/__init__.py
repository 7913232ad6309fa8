"""The closed loop in small: a simulated service whose runtimes and autoscaler obey decisions, beside one where nobody does."""

"""How much load comes, and how many replicas carry it: forecasts, capacity, and the guard that falls back to utilisation."""

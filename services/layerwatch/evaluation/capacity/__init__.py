"""Forecasts against scaling on utilisation, on arrivals that real services saw."""

"""Tells people of alerts: one incident, one page, whatever happens in between."""

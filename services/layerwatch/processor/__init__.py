"""The stream processor on faust: profiles to signals (by instance), signals to alerts (by service)."""

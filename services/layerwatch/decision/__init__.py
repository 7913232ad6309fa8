"""The decision centre on faust: alerts to decisions (by target)."""

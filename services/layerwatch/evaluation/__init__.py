"""Judges the detectors on recordings: verdicts, naive detectors beside them, studies, a report. The only reader of labels."""

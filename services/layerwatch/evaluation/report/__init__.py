"""One self-contained HTML file about recordings: pictures, verdicts, and every alert with its layers."""

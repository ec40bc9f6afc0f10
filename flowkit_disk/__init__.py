"""flowkit."""

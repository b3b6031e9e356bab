"""Pictures: simulated slices, templates, predictions."""

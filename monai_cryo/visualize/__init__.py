"""Pictures: simulated slices, templates, predictions. matplotlib is imported when one is drawn."""

"""Training: one module, one run folder and one set of options for all tasks."""

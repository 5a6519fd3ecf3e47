"""From the step of a cell to the plan of two loops."""

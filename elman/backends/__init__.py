"""What runs a plan, or a cell without one."""

"""Plans as stages of work, before any code is written: what all code generators share."""

"""How fast every cell runs beside what else there is: what `elman bench` does."""

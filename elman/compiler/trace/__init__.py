"""From the step of a cell to the language of the compiler."""

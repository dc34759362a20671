"""A report for each reader: a terminal, a program, a test dashboard, Gradescope, a browser."""

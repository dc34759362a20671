"""What is measured, and against what. `make bench` runs all of it; every figure is a median of several."""

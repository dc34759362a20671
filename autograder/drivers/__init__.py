"""The grader's few lines inside the sandbox: one module a lab, `labNN.py`, with the functions that its checks name.

Drivers know no answers. `base` says what a driver looks like and holds what they share.
"""

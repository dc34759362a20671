"""What is checked: one module a lab, `labNN.py`, that defines `LAB` (see `autograder.model`).

Stages know the answers, so they live on the supervisor's side only; the sandbox cannot even read these files.
"""

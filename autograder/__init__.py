"""Runs a student's notebook against reference guests and says what is right, what is not, and why.

The package has two sides that never meet. The *supervisor* (`stages`, `judge`, `supervisor`) knows what is expected
and never imports student code. The *sandbox* (`sandbox`, `drivers`) runs student code and knows no answers; all that
crosses from it to the supervisor is observations: JSON and bytes, with a length limit.
"""

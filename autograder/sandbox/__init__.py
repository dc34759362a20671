"""Where student code runs: a process of its own, with limits, that can only send observations."""

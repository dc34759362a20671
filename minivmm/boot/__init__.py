"""Ways into a guest: where an image goes in memory, and the state that its first instruction finds."""

"""One device, one file. A device knows its claim and its registers; it knows nothing of the machine that holds it."""

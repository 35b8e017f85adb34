"""What a command writes to files."""

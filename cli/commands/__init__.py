"""A file a command, or a family of them. They must not know one another, but for what a job looks like."""

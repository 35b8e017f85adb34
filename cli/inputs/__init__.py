"""What a command line names -> what the client sends."""

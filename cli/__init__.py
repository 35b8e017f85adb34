"""The operator's hand: the `twinvec` command. Each command is a module, loaded when it is called."""

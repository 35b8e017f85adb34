"""Characters that a terminal obeys, or that change what is read beside them."""

OBEYED = ["\x1b", "\x9b", "\x07", "\r", "\x7f", "\0", "\u202e", "\u2028"]

"""How answers look in a terminal. It must not ask for any."""

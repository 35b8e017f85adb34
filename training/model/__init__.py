"""The network, the tower that is made of it, and what runs it. How it is fitted is not here."""

"""The Siamese network, the tower that is made of it, and what runs it. It must not know how it is fitted."""

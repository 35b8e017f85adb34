"""Towers, and the vectors stored and searched under each. It must not know the queue's functions."""

"""`twinvec doctor`: checks, each with what it found and what to do. They must not change anything."""

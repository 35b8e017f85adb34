"""Labelled glyphs to train on, from wherever they can be had. It must not know Keras, but for `downloads`."""

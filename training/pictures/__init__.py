"""Image files -> 28x28 glyphs. It must not know Keras: intake runs without it."""

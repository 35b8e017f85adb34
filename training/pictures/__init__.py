"""Pictures from the world -> 28x28 glyphs. It must not know Keras: intake runs without it."""

"""Keras, set as every tower is computed with it. Whatever computes with Keras imports it from here.

Importing this loads Keras, which takes seconds. Keras reads `keras.json` in the user's home folder, where notebooks of
other days leave their floats and axes; a tower must not depend on these.
"""

import keras

keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")
keras.config.set_max_epochs(None)
keras.config.set_max_steps_per_epoch(None)

__all__ = ["keras"]

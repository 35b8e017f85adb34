"""Why a picture was not embedded: the codes that `failures` lists, and what each says."""

from __future__ import annotations

# Why a picture was not embedded: the codes that `failures` lists, and what each says.
REASONS = {
    "unreadable": "the client could not read the file",
    "bad_picture": "the client was given what is no picture, or one that cannot be written as PNG",
    "bad_key": "no string of 1 to 512 characters without NUL; it is listed under its place in the stream",
    "bad_label": "no integer from 0 to 2,147,483,647",
    "bad_attributes": "no JSON object of at most 4,096 bytes and 32 levels",
    "bad_array": "an array whose shape, dtype or values are no picture's",
    "too_many_bytes": "a file of more than 10 MiB",
    "too_many_pixels": "more than 24 million pixels, by its header: it was not decoded",
    "empty": "no bytes",
    "not_a_picture": "none of PNG, JPEG, BMP, GIF, TIFF and WebP",
    "damaged": "a picture that cannot be decoded to its end",
    "unsupported_depth": "more than 8 bits per channel",
    "blank": "no stroke stands out from the paper",
    "duplicate_key": "the key came before in the same job, with other pixels; the first ones were kept",
    "superseded": "other pixels came under the key before these were embedded",
    "poison": "whoever decoded or embedded it died of it, more than once",
    "not_finite": "the tower gave it NaN or infinity",
}

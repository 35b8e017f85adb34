"""Why a picture was not embedded: the codes that `failures` lists, and what each says."""

from __future__ import annotations

from typing import Literal

SenderReason = Literal[  # found by the client; such a picture is not sent
    "unreadable",
    "bad_picture",
    "bad_key",
    "bad_label",
    "bad_attributes",
    "bad_array",
    "too_many_bytes",
]

Reason = Literal[
    SenderReason,
    "too_many_pixels",
    "too_costly",
    "empty",
    "not_a_picture",
    "damaged",
    "unsupported_depth",
    "blank",
    "several_digits",
    "unclear",
    "duplicate_key",
    "superseded",
    "deleted",
    "poison",
    "not_finite",
    "error",
]

REASONS: dict[Reason, str] = {
    "unreadable": "the client could not read the file",
    "bad_picture": "the client was given something that is not a picture, or that cannot be written as PNG",
    "bad_key": "not a string of 1 to 512 characters without NUL; it is listed under its place in the stream",
    "bad_label": "not an integer from 0 to 2,147,483,647",
    "bad_attributes": "not a JSON object of at most 4,096 bytes and 32 levels",
    "bad_array": "an array whose shape, dtype or values are not a picture's",
    "too_many_bytes": "a file of more than 10 MiB",
    "too_many_pixels": "more than 24 million pixels, by its header: it was not decoded",
    "too_costly": "more than 5 s of the processor or 1 GiB of memory to decode, or than is left for those sent with it",
    "empty": "no bytes",
    "not_a_picture": "none of PNG, JPEG, BMP, GIF, TIFF and WebP, or AVIF and HEIC where workers can read them",
    "damaged": "a picture that cannot be decoded to its end",
    "unsupported_depth": "more than 8 bits per channel",
    "blank": "no stroke stands out from the paper",
    "several_digits": "two digits or more stand side by side",
    "unclear": "nothing in it looks like one digit, beside lines, shadows or other figures",
    "duplicate_key": "the key came again later in the same job, with other pixels; the last ones were kept",
    "superseded": "other pixels came under the key before these were embedded",
    "deleted": "the digit was deleted before it was embedded; its picture is kept nowhere",
    "poison": "it crashed the process that decoded or embedded it, more than once",
    "not_finite": "the tower gave it NaN or infinity",
    "error": "the work on its batch ended with an exception, each time for about a day",
}

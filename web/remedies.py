"""What a person can do about a picture that was not embedded, where its message does not say so itself.

It must not know how pictures are read.
"""

from __future__ import annotations

from twinvec_client.contract.reasons import Reason

REMEDIES: dict[Reason, str] = {  # of the reasons that clients and the ledger give; those of reading end with a remedy
    "unreadable": "Check the path and its rights, then send the picture again.",
    "bad_picture": "Send encoded bytes, a path, an array or a PIL image.",
    "bad_key": "Give it a key of 1 to 512 characters.",
    "bad_label": "Send it again with an integer as its label, or with none.",
    "bad_attributes": "Send it again with a smaller, plain JSON object.",
    "bad_array": "Send an array of (height, width), of uint8, bool, or floats in 0..1.",
    "too_many_bytes": "Crop it to the digit, or save it smaller.",
    "duplicate_key": "Nothing is lost: the last picture under this key is stored. Use keys that are unique.",
    "superseded": "Nothing is lost: a newer picture is stored under this key.",
    "deleted": "It was deleted on purpose. Send it again if it is wanted.",
    "poison": "Leave it out, and keep it for a bug report.",
    "not_finite": "Look at the picture, then at the tower's report.",
    "error": "A worker's log has the error. Once that is mended, retry.",
}


def remedy(reason: str) -> str:
    """Empty where the message says it, or the reason is of a newer version."""
    return {**REMEDIES}.get(reason, "")  # type: ignore[call-overload,no-any-return]  # any text may be asked for

"""Messages whose every field has its type and lies at the edge of its limits: what passes every check and may still be
more than a task can do. It must not know what the tasks do."""

import json
import random
import string
from typing import Any

from msgspec import inspect

from twinvec_client.contract.messages import MESSAGES, BadMessage, Message

STARTS = {  # what does as it is told, at length: it trains, or stops a lane
    "twinvec.start_training",
    "twinvec.retrain",
    "twinvec.retrain_on_schedule",
    "twinvec.train",
    "twinvec.pause",
}
ASKED = [message for message in MESSAGES if message.task not in STARTS]
WORDS = [
    "x",
    "\x1b[2J\x9b",
    "\u202e\u2028",
    "é" * 9,
    "𝟜",
    "'; DROP TABLE digits; --",
    "%s{0}",
    "..",
    "NaN",
    "[/red]",
]
NUMBERS = [0, 1, 2, 9, 1000, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1]
TRIES = 50


def payload(kind: type[Message], dice: random.Random) -> dict[str, Any] | None:
    """The fields of such a message; None where none that was tried is one."""
    form: Any = inspect.type_info(kind)
    for _ in range(TRIES):
        fields = {
            field.encode_name: _value(field.type, dice)
            for field in form.fields
            if field.required or dice.random() < 0.7
        }
        try:
            return kind.read(fields).write()
        except BadMessage:
            continue
    return None


def _value(form: Any, dice: random.Random) -> Any:
    match form:
        case inspect.UnionType():
            return _value(dice.choice(form.types), dice)
        case inspect.BoolType():
            return dice.random() < 0.5
        case inspect.LiteralType():
            return dice.choice(form.values)
        case inspect.EnumType():
            return dice.choice([each.value for each in form.cls])
        case inspect.IntType() | inspect.FloatType():
            return _number(form, dice)
        case inspect.StrType():
            return _text(form, dice)
        case inspect.BytesType():
            return dice.randbytes(_length(form, dice, 2000))
        case inspect.ListType():
            return [_value(form.item_type, dice) for _ in range(_length(form, dice, 5))]
        case inspect.TupleType():
            return [_value(each, dice) for each in form.item_types]
        case inspect.DictType():
            return {dice.choice(WORDS): dice.choice([*WORDS, *NUMBERS, None, True, [], {}])}
        case inspect.StructType() | inspect.DataclassType():
            return {each.encode_name: _value(each.type, dice) for each in form.fields}
    return None


def _number(form: Any, dice: random.Random) -> Any:
    least = form.ge if form.ge is not None else 0
    most = form.le if form.le is not None else form.lt - 1 if form.lt is not None else 2**63 - 1
    some = [each for each in NUMBERS if least <= each <= most]
    found = dice.choice([least, most, *some])
    return float(found) if isinstance(form, inspect.FloatType) else int(found)


def _length(form: Any, dice: random.Random, usual: int) -> int:
    least = form.min_length or 0
    most = form.max_length if form.max_length is not None else usual
    return dice.choice([least, min(most, least + 1), min(most, usual), most if dice.random() < 0.1 else least])


def _text(form: Any, dice: random.Random) -> str:
    match form.pattern:
        case None:
            pass
        case pattern if "[0-9a-f]{8}" in pattern:
            digits = "".join(dice.choices("0123456789abcdef", k=32))
            return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])
        case pattern if "[0-9a-f]{64}" in pattern:
            return "".join(dice.choices("0123456789abcdef", k=64))
    if dice.random() < 0.2:
        return json.dumps({dice.choice(string.ascii_letters): dice.choice(NUMBERS)})
    length = _length(form, dice, 9)
    return (dice.choice(WORDS) * (1 + length))[: max(length, 1)] if length else ""

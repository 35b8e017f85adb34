"""Pictures that failed are written under their keys, and replace nothing that is there."""

from pathlib import Path

from cli.commands.jobs import save_picture
from twinvec_client import Failure


def failed(key: str, picture: bytes) -> Failure:
    return Failure(
        key=key,
        reason="damaged",
        message="",
        attempts=1,
        label=None,
        attributes=None,
        is_glyph=len(picture) == 784,
        picture=picture,
    )


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (tmp_path / "a").symlink_to(tmp_path / "elsewhere")
    sent = [failed("a", b"one"), failed("a", b"two"), failed(".a", b"three"), failed("a", bytes(784))]
    saved = [save_picture(failure, tmp_path) for failure in sent]
    assert [path.name for path in saved] == ["a (2)", "a (3)", "a (4)", "a.png"]
    assert [path.read_bytes() for path in saved[:3]] == [b"one", b"two", b"three"]
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"

"""Files are written whole, under names made safe, never through a link, and no picture replaces what is there."""

from pathlib import Path

import pytest

from cli.commands.jobs import save_picture
from cli.errors import CommandError
from cli.outputs.files import Creating, replacing
from cli.outputs.vectors import check
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
    folder = Creating(tmp_path)
    saved = [save_picture(failure, folder) for failure in sent]
    assert [path.name for path in saved] == ["a (2)", "a (3)", "a (4)", "a.png"]
    assert [path.read_bytes() for path in saved[:3]] == [b"one", b"two", b"three"]
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"


@pytest.mark.parametrize("key", ["漢字" * 250, "k" * 512, "../../x", "/etc/x", "..", "-rf", "a\n\x1b[2J", "\u202egnp"])
def test_pictures_under_any_key_all_stay_in_the_folder(tmp_path: Path, key: str) -> None:
    folder = Creating(tmp_path / "bad")
    saved = {save_picture(failed(key + each, each.encode()), folder) for each in "abc"}
    assert sorted(path.read_bytes() for path in saved) == [b"a", b"b", b"c"]
    assert {path.resolve().parent for path in saved} == {tmp_path / "bad"}


def test_a_file_is_replaced_whole_or_left_as_it_is(tmp_path: Path) -> None:
    tower = tmp_path / "tower.keras"
    tower.write_bytes(b"before")
    with pytest.raises(CommandError, match="no room"), replacing(tower) as unfinished:
        unfinished.write_bytes(b"half")
        raise OSError(28, "no room")
    assert tower.read_bytes() == b"before"
    with replacing(tower) as unfinished:
        unfinished.write_bytes(b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("tower.keras", b"whole")]


@pytest.mark.parametrize("leads", ["file", "nowhere"])
def test_nothing_is_written_through_a_link(tmp_path: Path, leads: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    link = tmp_path / "vectors.npz"
    link.symlink_to(tmp_path / leads)
    with pytest.raises(CommandError, match="it is a link"), replacing(link):
        pass
    with pytest.raises(CommandError, match="it is a link"):
        check(link)
    assert ((tmp_path / "file").read_bytes(), (tmp_path / "nowhere").exists()) == (b"mine", False)


def test_the_keys_beside_vectors_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "v.keys.npz").symlink_to(tmp_path / "file")
    with pytest.raises(CommandError, match="it is a link"):
        check(tmp_path / "v.npy")


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(CommandError, match="it is not a file"), replacing(Path("/dev/null")):
        pass

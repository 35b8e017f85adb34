"""The table of settings in docs/settings.md says what the settings say."""

import pytest

from worker.settings import Settings
from worker.settings_table import BEGIN, END, PAGE, table, written


def test_the_page_holds_the_table_that_make_docs_writes() -> None:
    page = PAGE.read_text()
    assert written(page) == page, "run `make docs`"


def test_a_table_that_is_out_of_date_is_replaced_and_the_rest_of_the_page_kept() -> None:
    assert written(f"above\n{BEGIN}\n\n| old |\n\n{END}\nbelow") == f"above\n{BEGIN}\n\n{table()}\n\n{END}\nbelow"


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="not found"):
        written("a page")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_row_with_a_default_and_a_description(name: str) -> None:
    (row,) = [line for line in table().splitlines() if f"`TWINVEC_{name.upper()}`" in line]
    _, _variable, default, says, _ = (cell.strip() for cell in row.split("|"))
    assert default
    assert says

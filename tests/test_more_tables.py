"""Tables that lose or change ratings where they are read leniently."""

import warnings

import openpyxl
import pytest

from fewshot_iqa.data.tables import parse_ratings, read_rows
from fewshot_iqa.errors import InputError, InputWarning


def read(path, content):
    path.write_bytes(content.encode())
    return read_rows(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('image,score,note\na.png,1,"sharp\nb.png,2,\nc.png,3,\n', "look for a quotation mark that is not closed"),
        ('image,score\na.png,"1"2\nb.png,2\n', "look for a quotation mark that is not closed"),
        ("image,score,\na.png,4,4\nb.png,3,2\n", "row 2 has 3 values, the header 2 columns"),
        ("image,score,,\na.png,4,,4\nb.png,3,,\n", "row 2 has 4 values, the header 2 columns"),
    ],
)
def test_values_that_would_be_lost_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path / "t.csv", content)


def test_commas_at_the_end_and_a_numbered_first_column_are_no_values(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read(tmp_path / "t.csv", ",image,score,\n0,a.png,1,\n1,b.png,2,\n")
    assert list(table.rows) == ["image", "score"]
    assert list(table.rows["score"]) == ["1", "2"]


def test_lines_that_end_as_on_a_macintosh(tmp_path):
    assert list(read(tmp_path / "t.csv", "image,score\ra.png,1\rb.png,2\r").rows["score"]) == ["1", "2"]


def test_a_point_that_may_part_thousands(tmp_path):
    with pytest.warns(
        InputWarning, match="'1.234' .* is read as 1.234, beside 900; for thousands, leave out the point"
    ):
        read(tmp_path / "t.csv", "image;score\na.png;1.234\nb.png;900\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(tmp_path / "t.csv", "image;score\na.png;1.234\nb.png;9\nc.png;2.5\n")


@pytest.mark.parametrize(
    ("second", "note"),
    [
        ([["image", "score"], ["c.png", 3]], "sheet 'June' of June, July: the header is row 1"),
        ([], "2 values below no name are left out, such as '5' in row 2"),
    ],
)
def test_what_a_workbook_holds_besides_is_told(tmp_path, second, note):
    book = openpyxl.Workbook()
    book.active.title = "June"
    for row in [["image", "score"], ["a.png", 1, *([] if second else [5])], ["b.png", 2, *([] if second else [4])]]:
        book.active.append(row)
    for row in second:
        (book["July"] if "July" in book.sheetnames else book.create_sheet("July")).append(row)
    book.save(tmp_path / "t.xlsx")
    with pytest.warns(InputWarning, match=note):
        assert list(read_rows(tmp_path / "t.xlsx").rows["score"]) == ["1", "2"]


def test_digits_between_underscores_are_no_number(tmp_path):
    table = read(tmp_path / "t.csv", "image,score\na.png,4_5\nb.png,3_2\n")
    with pytest.raises(InputError, match="row 2: the score is '4_5', not a number"):
        parse_ratings(table.where, table.rows["score"], None)

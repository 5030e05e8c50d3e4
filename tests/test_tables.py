"""Tables of ratings as people have them: names of columns, duplicates, scales, data frames."""

import shutil
import warnings

import openpyxl
import pandas as pd
import pytest

from fewshot_iqa.data.splits import folds_by_group
from fewshot_iqa.errors import InputError, InputWarning
from fewshot_iqa.recipes.sources import read_source, warn_guessed_scale
from fewshot_iqa.types import Scale


def frame(image="image", score="score", **more):
    return pd.DataFrame({image: [f"photo{i}.png" for i in range(6)], score: [1.5 + i / 2 for i in range(6)], **more})


@pytest.mark.parametrize(
    ("image", "score"),
    [("Image Name", "MOS"), ("FILE-NAME", "Mean_Opinion_Score"), ("path", "stars"), ("img", " Rating ")],
)
def test_usual_columns_are_recognised_and_named(table, image, score):
    path = table([{image: f"photo{i}.png", score: i} for i in range(6)])
    with pytest.warns(InputWarning, match=f"images from column '{image}', ratings from '{score.strip()}'"):
        rated = read_source(None, labels=path)
    assert [record.rating for record in rated.records] == [0, 1, 2, 3, 4, 5]


def test_the_plain_names_win_without_a_word(photographs):
    labels = frame(file="elsewhere.png", MOS=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rated = read_source(None, labels=labels, root=photographs)
    assert [record.rating for record in rated.records] == list(labels["score"])


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (frame("photo", "MOS"), {}, "no column 'image' or the like. Columns: photo, MOS; name that of the pictures"),
        (frame("file", "MOS", rating=1), {}, "'MOS', 'rating' could each hold the ratings; .* with --score-column"),
        (frame("file", "DMOS"), {}, "add --lower-is-better, or where high values are good --score-column DMOS"),
        (frame(), {"score_column": "Score"}, "no column 'Score'. Did you mean 'score'?"),
        (frame(), {"range": "5,1"}, "--range 5,1: the lowest rating comes first"),
        (frame(), {"range": "1 to 5"}, "--range 1 to 5: expected the lowest and the highest rating"),
        (frame(), {"range": (2, 5)}, "row 0: the score 1.5 lies outside of the range 2 to 5"),
        (frame(), {"test": 0.5, "folds": 3}, "--test and --folds: give one of them"),
        (frame(), {"task": "demo"}, "--labels: the task 'demo' makes its own ratings"),
        (None, {"task": "demo", "lower_is_better": True}, "--lower-is-better: the task 'demo' makes its own ratings"),
        (None, {}, "--root: give --labels TABLE.csv as well"),
        ({"photo0.png": 1}, {}, "expected the path of a table or a DataFrame, not a dict"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(photographs, labels, options, message):
    options = dict(options)
    with pytest.raises(InputError, match=message):
        read_source(options.pop("task", None), labels=labels, root=photographs, **options)


def test_low_ratings_may_be_the_good_ones(photographs):
    labels = frame("image", "DMOS")
    with pytest.warns(InputWarning):
        rated = read_source(None, labels=labels, root=photographs, lower_is_better=True)
    assert rated.source.lower_is_better
    assert read_source(None, labels=labels, root=photographs, score_column="DMOS").records == rated.records


def test_a_frame_is_read_as_its_file_is(photographs, tmp_path):
    labels = frame(group=list("aabbcc"), scene=["animal;plant", None, *4 * ["night"]])
    labels.to_csv(tmp_path / "labels.csv", index=False)
    from_frame = read_source(None, labels=labels, root=photographs, range=(1, 5))
    from_file = read_source("csv", labels=tmp_path / "labels.csv", root=photographs, range="1,5")
    assert from_frame.records == from_file.records
    assert from_frame.source.range == from_file.source.range == (1, 5)


def test_a_frame_is_not_printed_into_an_error(photographs):
    for options in ({"root": frame()}, {"labels": frame(score="x"), "root": photographs}):
        with pytest.raises(InputError) as refused:
            read_source(None, **{"labels": frame(), **options})
        assert "photo0" not in str(refused.value)
    with pytest.raises(InputError, match=r"^the labels table, row 2: the score is empty, not a number"):
        read_source(None, labels=frame().assign(score=[1, 2, None, 4, 5, 6]), root=photographs)


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (b"image;score\nphoto0.png;1,5\nphoto1.png;2\n", ".csv"),
        ("image\tscore\r\nphoto0.png\t1,5\r\nphoto1.png\t2\r\n".encode("utf-16"), ".txt"),
        ("image,score,note\nphoto0.png,1.5,für Zoë\nphoto1.png,2,\n".encode("cp1252"), ".csv"),
    ],
)
def test_tables_as_spreadsheets_write_them(photographs, tmp_path, content, ending):
    (tmp_path / "labels").with_suffix(ending).write_bytes(content)
    rated = read_source(None, labels=f"labels{ending}", root=tmp_path, overrides=[f"images={photographs}"])
    assert [record.rating for record in rated.records] == [1.5, 2]


def test_a_table_that_is_no_table_is_said(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"image,score\na\rb.png,3\nc.png,4\n")
    with pytest.raises(InputError, match=r"labels\.csv: not readable as a table \(new-line character"):
        read_source(None, labels=tmp_path / "labels.csv")


def test_rows_of_one_picture_become_their_mean(photographs):
    names = ["photo0.png", "./photo0.png", "photo1.png", "photo2.png", "photo3.png", "photo1.png"]
    labels = frame(group=["a", "b", "b", "c", "d", "e"]).assign(image=names, score=[1, 2, 3, 4, 5, 5])
    with pytest.warns(InputWarning, match="6 ratings of 4 pictures: learning from their means"):
        rated = read_source(None, labels=labels, root=photographs)
    assert [record.path.name for record in rated.records] == [f"photo{i}.png" for i in range(4)]
    assert [record.rating for record in rated.records] == [1.5, 4, 4, 5]
    assert [record.group for record in rated.records] == ["a", "a", "c", "d"]


def test_rows_of_one_file_with_two_prompts_stay_together(photographs):
    names = ["photo0.png", "photo0.png", "photo1.png", "photo2.png", "photo3.png", "photo1.png"]
    labels = frame(prompt=["a", "b", "b", "c", "d", "e"]).assign(image=names)
    with pytest.warns(InputWarning, match="2 of 6 rows repeat a picture of an earlier row"):
        rated = read_source(None, labels=labels, root=photographs)
    assert len(rated.records) == 6
    assert [record.group for record in rated.records] == ["a", "a", "a", "c", "d", "a"]
    for pool, test in folds_by_group(rated.records, 3, seed=0):
        assert not {r.path.resolve() for r in pool} & {r.path.resolve() for r in test}


def test_a_name_of_another_case_and_how_many_are_missing(photographs, tmp_path):
    missing = r"row 3: .*photo33\.png does not exist \(1 of 6 pictures are missing\)\. Did you mean 'photo3\.png'\?"
    with pytest.raises(InputError, match=missing):
        read_source(None, labels=frame().replace("photo3.png", "photo33.png"), root=photographs)
    with pytest.warns(InputWarning, match=r"1 of 6 files are spelt otherwise: 'PHOTO3\.png' is photo3\.png"):
        read_source(None, labels=frame().replace("photo3.png", "PHOTO3.png"), root=photographs)
    with pytest.raises(InputError, match=r"\(6 of 6 pictures are missing\)\. Name the folder .* with --root FOLDER"):
        read_source(None, labels=frame(), root=tmp_path)
    with pytest.raises(InputError, match=r"a{400}.*does not exist \(1 of 6 pictures are missing\)"):
        read_source(None, labels=frame().replace("photo3.png", "a" * 400), root=photographs)
    (tmp_path / "labels.csv").touch()
    with pytest.raises(InputError, match=r"lables\.csv: no such table\. Did you mean 'labels\.csv'\?"):
        read_source(None, labels=tmp_path / "lables.csv")


def test_a_scale_that_few_ratings_span_is_said():
    with pytest.warns(InputWarning, match=r"taken from the 10 ratings \(1\.5 to 4\.5\).*--range LOW,HIGH"):
        warn_guessed_scale(Scale(4.5, 1.5), 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_guessed_scale(Scale(1, 5), 200)


def workbook(path, **sheets):
    with pd.ExcelWriter(path) as book:
        for name, rows in sheets.items():
            pd.DataFrame(rows).to_excel(book, sheet_name=name, header=False, index=False)
    return path


ROWS = [["image", "score"], ["photo0.png", 4.4], ["photo1.png", 2]]


def test_the_sheet_and_the_header_are_found(photographs, tmp_path):
    path = workbook(tmp_path / "t.xlsx", About=[["Study"], ["of June"]], Ratings=[["Title", None], [None, None], *ROWS])
    with pytest.warns(InputWarning, match=r"t\.xlsx, sheet 'Ratings' of About, Ratings: the header is row 3"):
        rated = read_source(None, labels=path, root=photographs)
    assert [record.rating for record in rated.records] == [4.4, 2]
    with pytest.raises(InputError, match=r"t\.xlsx, sheet 'About' of About, Ratings: no column 'image'"):
        read_source(None, labels=path, root=photographs, image_column="image", score_column="mos")


def test_workbooks_that_cannot_be_read(photographs, tmp_path):
    (tmp_path / "old.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(InputError, match="protected by a password, or an"):
        read_source(None, labels=tmp_path / "old.xlsx", root=photographs)
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    with pytest.raises(InputError, match=r"old\.xls: not readable as a table .*: save it as \.xlsx or \.csv"):
        read_source(None, labels=tmp_path / "old.xls", root=photographs)
    (tmp_path / "text.xlsx").write_text("image,score\n")
    with pytest.raises(
        InputError, match=r"text\.xlsx: not readable as a table \(it is no workbook: save it as one, or name it"
    ):
        read_source(None, labels=tmp_path / "text.xlsx", root=photographs)


def test_one_cell_far_away_does_not_fill_the_memory(photographs, tmp_path):
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append(row)
    book.active["XFD1048576"] = " "
    book.save(tmp_path / "far.xlsx")
    with pytest.raises(InputError, match="its last cell is in row 1048576 and column 16384: delete it"):
        read_source(None, labels=tmp_path / "far.xlsx", root=photographs)


@pytest.mark.parametrize(
    ("content", "ratings"),
    [
        ("sep=;\nimage;score\nphoto0.png;4,4\nphoto1.png;2\n", [4.4, 2]),
        ("image,score\nphoto0.png,88%\nphoto1.png,40 %\n", [88, 40]),
        ("image;score\nphoto0.png;88,5%\nphoto1.png;40%\n", [88.5, 40]),
        ("Study of June\n\nimage,score\nphoto0.png,4.4\nphoto1.png,2\n", [4.4, 2]),
    ],
)
def test_tables_as_other_programs_write_them(photographs, tmp_path, content, ratings):
    (tmp_path / "t.csv").write_text(content)
    rated = read_source(None, labels=tmp_path / "t.csv", root=photographs)
    assert [record.rating for record in rated.records] == ratings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("photo0.png,4.4\nphoto1.png,2\n", "row 1 looks like data: add a header above it, such as image,score"),
        ("4.4 photo0.png\n2 photo1.png\n", "row 1 looks like data"),
        ("<html><table>\n", "it is a page of the web or XML"),
        ('[{"image": "photo0.png", "score": 1}]\n', "it is JSON: save the table itself as .csv or .xlsx"),
        ("{\\rtf1 image,score}\n", "it is RTF"),
        ("%PDF-1.4\n", "it is PDF"),
        ("| image | score |\n|---|---|\n", "it is a table in Markdown"),
        ("image score\nphoto0.png 1\nphoto1.png 2\n", "blanks stand between its columns: put commas"),
        ("image,score\nphoto0.png,4,4\n", "row 2 has 3 values, the header 2 columns"),
        ("image,score\nphoto0.png,NA\nphoto1.png,2\n", r"row 2: the score is 'NA', .* with --skip-incomplete"),
        ("image,score\nphoto0.png,good\nphoto1.png,bad\n", r"is 'good', .* name another column with --score-column"),
        ("image,score\nphoto0.png,1\nphoto99.png,2\n", r"photo99\.png does not exist \(1 of 2 pictures are missing\)"),
    ],
)
def test_tables_that_need_a_hand(photographs, tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_source(None, labels=tmp_path / "t.csv", root=photographs)


def test_incomplete_rows_are_left_out_on_request(photographs):
    labels = frame().assign(score=["1", "NA", "", "4", "5", "6"]).replace("photo5.png", "gone.png")
    with pytest.warns(InputWarning, match="3 of 6 rows are left out: 1 without a picture, 2 without a rating"):
        rated = read_source(None, labels=labels, root=photographs, skip_incomplete=True)
    assert [record.rating for record in rated.records] == [1, 4, 5]
    with pytest.raises(InputError, match="no row has both a rating and its picture"):
        read_source(None, labels=frame().assign(score="NA"), root=photographs, skip_incomplete=True)


def test_columns_of_several_raters(photographs):
    labels = frame().drop(columns="score").assign(anna=[1, 2, 3, 4, 5, 1], ben=[3, 2, None, 4, 5, 2])
    rated = read_source(None, labels=labels, root=photographs, score_column="anna, ben")
    assert [record.rating for record in rated.records] == [2, 2, 3, 4, 5, 1.5]
    assert [record.votes for record in rated.records] == [2, 2, 1, 2, 2, 2]
    assert rated.records[0].rating_std == pytest.approx(2**0.5)
    assert rated.records[2].rating_std is None
    with pytest.raises(InputError, match="no column 'carl'"):
        read_source(None, labels=labels, root=photographs, score_column="anna,carl")
    with pytest.raises(InputError, match="row 1: 'ben' is 'two', not a number"):
        read_source(None, labels=labels.assign(ben=[1, "two", 3, 4, 5, 6]), root=photographs, score_column="anna,ben")


def test_names_in_folders_with_other_separators_accents_and_suffixes(photographs, tmp_path):
    (tmp_path / "Tag 1").mkdir()
    for i, name in enumerate(("Tu\u0308r.png", "b.JPG", "c.png")):
        shutil.copy(photographs / f"photo{i}.png", tmp_path / "Tag 1" / name)
    labels = pd.DataFrame({"image": ["Tag 1\\T\u00fcr.PNG", "tag 1/B.jpg", "C"], "score": [1, 2, 3]})
    with pytest.warns(InputWarning, match="3 of 3 files are spelt otherwise"):
        rated = read_source(None, labels=labels, root=tmp_path)
    assert [record.path.suffix for record in rated.records] == [".png", ".JPG", ".png"]

"""Tables of ratings as people have them: names of columns, duplicates, scales, data frames."""

import warnings

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
    (tmp_path / "labels.csv").touch()
    with pytest.raises(InputError, match=r"lables\.csv: no such table\. Did you mean 'labels\.csv'\?"):
        read_source(None, labels=tmp_path / "lables.csv")


def test_a_scale_that_few_ratings_span_is_said():
    with pytest.warns(InputWarning, match=r"taken from the 10 ratings \(1\.5 to 4\.5\).*--range LOW,HIGH"):
        warn_guessed_scale(Scale(4.5, 1.5), 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_guessed_scale(Scale(1, 5), 200)

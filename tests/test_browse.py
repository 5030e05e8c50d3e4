"""`fsiqa browse`: the catalogue, thumbnails, and the gallery in a real browser."""

import csv
import json
import os
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from PIL import Image
from starlette.requests import Request

from fewshot_iqa.app.ballot import RATING, Ballot
from fewshot_iqa.app.browse import browse_routes
from fewshot_iqa.app.catalogue import Catalogue, Entry, read_scores
from fewshot_iqa.app.server import create_app
from fewshot_iqa.app.session import Session
from fewshot_iqa.app.thumbnails import SIDE, Thumbnails
from fewshot_iqa.errors import InputError
from tests.browser import PHONE, ask, needs_browser, opened, serious, serving
from tests.conftest import photograph

COLUMNS = "image,quality,quality_std,rating,rating_std,note,distortion\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images in two folders, and their scores, the first the worst."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "night").mkdir()
    rows = []
    for i in range(12):
        name = f"night/{i}.png" if i % 2 else f"{i}.png"
        photograph(i, 300, 400).save(folder / name)
        rows.append(f"{name},{i / 12:.4f},{0.2 - i / 100:.4f},{i / 3:.4f},0.1,,{'blur' if i < 4 else 'jpeg'}")
    (folder / "broken.jpg").write_bytes(b"nothing")
    rows.append("broken.jpg,,,,,not an image,")
    (folder / "scores.csv").write_text(COLUMNS + "\n".join(rows) + "\n")
    return folder


@contextmanager
def opened_routes(routes):
    """The address of routes that a thread serves."""
    server = uvicorn.Server(uvicorn.Config(create_app(routes, "token"), log_level="warning", lifespan="off", port=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/token/"
    server.should_exit = True
    thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_names_are_those_in_the_folder(folder, tmp_path, monkeypatch):
    entries = read_scores(folder / "scores.csv", folder).entries
    assert [entry.name for entry in entries[:2]] == ["0.png", "night/1.png"]
    assert entries[0].quality == 0
    assert (entries[-1].quality, entries[-1].note) == (None, "not an image")
    assert entries[3].likeliest == "blur"
    monkeypatch.chdir(folder.parent)  # as `fsiqa score images --csv` wrote them
    table = tmp_path / "scores.csv"
    table.write_text(COLUMNS + f"{folder.name}/night/1.png,.5,,,,,\nelsewhere.png,.5,,,,,\n")
    assert [entry.name for entry in read_scores(table, folder).entries] == ["night/1.png", "elsewhere.png"]
    assert read_scores(table, None).entries[0].path.is_file()
    table.write_text("image,mos\na.png,3\n")
    with pytest.raises(InputError, match=r"no column 'quality': `fsiqa score --csv` writes such tables"):
        read_scores(table, None)


def test_a_thumbnail_is_made_once_until_the_picture_changes(tmp_path):
    thumbnails, picture = Thumbnails(tmp_path / "thumbnails"), tmp_path / "picture.png"
    photograph(0, 600, 900).save(picture)
    first = thumbnails.get(picture)
    with Image.open(first) as small:
        assert max(small.size) == SIDE
    stamp = first.stat().st_mtime_ns
    assert thumbnails.get(picture) == first
    assert first.stat().st_mtime_ns == stamp
    photograph(1, 600, 900).save(picture)
    os.utime(picture, ns=(0, 5))
    assert thumbnails.get(picture) != first
    with pytest.raises(InputError, match=r"gone\.png: No such file"):
        thumbnails.get(tmp_path / "gone.png")


def test_thumbnails_are_made_in_the_background(folder, tmp_path):
    thumbnails = Thumbnails(tmp_path / "thumbnails")
    thumbnails.make_in_background([folder / "broken.jpg", folder / "0.png", folder / "2.png"])
    for _ in range(100):
        if len(list(thumbnails.folder.glob("*.jpg"))) == 2:
            return
        time.sleep(0.05)
    raise AssertionError("no thumbnails")


def test_a_correction_takes_the_place_of_earlier_votes(folder, tmp_path):
    out = tmp_path / "ratings.csv"
    ballot = Ballot(out, RATING)
    for rater, rating in (("ann", 1), ("bob", 2), ("ann", 3)):
        ballot.append({**dict.fromkeys(RATING, ""), "image": "night/1.png", "rating": rating, "rater": rater,
                       "rating_scale": "1-5"})  # fmt: skip
    with serving("browse", folder / "scores.csv", folder, "-o", out) as server:
        asked = {"number": 1, "rater": "ann", "value": "5", "seconds": 2}
        status, answer = ask(server.address + "rate", asked)
        assert (status, json.loads(answer)["rated"]) == (200, {"night/1.png": "5"})
        assert ask(server.address + "rate", asked | {"value": "7"})[0] == 400
        assert ask(server.address + "rate", asked | {"number": 99})[0] == 400
        assert ask(server.address + "thumbnail/12")[0] == ask(server.address + "image/12")[0] == 415
        assert ask(server.address + "thumbnail/13")[0] == 404
        assert ask(server.address[: server.address.index("/", 8)] + "/rows")[0] == 403
    with out.open() as file:
        rows = [(row["image"], row["rater"], row["rating"], row["rating_scale"]) for row in csv.DictReader(file)]
    assert rows == [("night/1.png", "bob", "2", "1-5"), ("night/1.png", "ann", "5", "1-5")]


def test_a_vote_that_is_refused_changes_nothing(tmp_path, monkeypatch):
    session = Session([], tmp_path / "votes.csv")
    session.correct("ann", "a.png", "5", 1)
    before = (tmp_path / "votes.csv").read_bytes()
    for rater, image in (("ann", "\udcff.png"), ("\ud800", "b.png")):
        with pytest.raises(InputError, match="characters that a table cannot"):
            session.correct(rater, image, "3", 1)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            session.correct("ann", "a.png", "1", 1)
    assert (tmp_path / "votes.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["votes.csv"]
    session.correct("ann", "b.png", "3", 1)
    with (tmp_path / "votes.csv").open() as file:
        assert [(row["image"], row["rating"]) for row in csv.DictReader(file)] == [("a.png", "5"), ("b.png", "3")]


def test_requests_that_make_no_sense_are_refused(folder, tmp_path):
    with serving("browse", folder / "scores.csv", folder, "-o", tmp_path / "ratings.csv") as server:
        for start in ("abc", "", "1e99", "-1"):
            assert len(json.loads(ask(server.address + f"rows?start={start}")[1])["rows"]) == 13
        for number in (-1, 1.9, True, "1", None):
            given = {"number": number, "rater": "ann", "value": "5", "seconds": 1}
            assert ask(server.address + "rate", given)[0] == 400
    assert not (tmp_path / "ratings.csv").exists()


def test_without_a_folder_for_caches_thumbnails_are_temporary(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Thumbnails().get(folder / "0.png").is_file()


def test_what_does_not_fit_is_said(fsiqa, folder, tmp_path):
    assert "no such model or table" in fsiqa("browse", tmp_path / "nothing").error
    assert "name the folder of the images as well" in fsiqa("browse", tmp_path).error
    assert "no such folder" in fsiqa("browse", folder / "scores.csv", tmp_path / "nothing").error
    assert "expected acr or continuous" in fsiqa("browse", folder / "scores.csv", "--scale", "pairs").error
    (tmp_path / "mos.csv").write_text("image,mos\na.png,3\n")
    assert "has the columns image, mos" in fsiqa("browse", folder / "scores.csv", "-o", tmp_path / "mos.csv").error
    assert "not a checkpoint" in fsiqa("browse", tmp_path, folder).error


def test_a_name_that_is_no_text_does_not_hide_the_others(tmp_path):
    entries = [Entry(name, tmp_path / name, 0.5, None, None, None, "", "") for name in ("a.png", "\udcff.png")]
    routes = browse_routes(Catalogue(entries, 2), Thumbnails(tmp_path), None, tmp_path / "ratings.csv", "acr", "")
    (rows,) = [route.endpoint for route in routes if route.path == "/rows"]
    answer = json.loads(rows(Request({"type": "http", "query_string": b""})).body)
    assert [row[0] for row in answer["rows"]] == ["a.png", "?.png"]


def names(page):
    """The images in sight, in the order of the page."""
    return page.evaluate(
        """[...document.querySelectorAll(".tile")].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
        .map((tile) => tile.querySelector("img")?.alt.split(",")[0] ?? "broken")"""
    )


@needs_browser
def test_images_are_sorted_filtered_selected_and_exported(browser, folder, tmp_path):
    with (
        serving("browse", folder / "scores.csv", folder, "-o", tmp_path / "ratings.csv") as server,
        opened(browser, server.address, viewport={"width": 1000, "height": 900}) as page,
    ):
        page.get_by_text("13 images").wait_for()
        assert names(page)[:3] == ["0.png", "night/1.png", "2.png"]
        page.select_option("#order", "best")
        assert names(page)[:2] == ["night/11.png", "10.png"]
        page.select_option("#order", "uncertain")
        assert names(page)[0] == "0.png"
        page.click("summary")
        page.select_option("#folder", "night")
        page.fill("#low", "0.5")
        page.get_by_text("13 images, 3 shown").wait_for()
        assert names(page) == ["night/7.png", "night/9.png", "night/11.png"]
        page.select_option("#folder", "")
        page.fill("#low", "")
        page.select_option("#likeliest", "blur")
        assert len(names(page)) == 4
        page.select_option("#likeliest", "")
        page.check("#uncertain")
        assert names(page) == ["0.png", "night/1.png"]
        page.uncheck("#uncertain")
        page.click("summary")
        page.select_option("#order", "worst")
        boxes = page.locator(".tile input")
        boxes.nth(0).click()
        boxes.nth(2).click(modifiers=["Shift"])
        page.get_by_text("3 selected").wait_for()
        with page.expect_download() as download:
            page.click("#export")
        assert download.value.path().read_text() == "image,quality\n0.png,0\nnight/1.png,0.0833\n2.png,0.1667\n"
        assert serious(page) == []
        assert all(url.startswith((server.address, "data:", "blob:")) for url in page.asked)
        assert [each for each in page.problems if "415" not in each] == []  # the broken image


@needs_browser
def test_an_image_is_viewed_and_rated_by_keyboard(browser, folder, tmp_path):
    out = tmp_path / "ratings.csv"
    with (
        serving("browse", folder / "scores.csv", folder, "-o", out, "--rater", "ann") as server,
        opened(browser, server.address, color_scheme="dark") as page,
    ):
        page.get_by_text("13 images").wait_for()
        page.locator(".open").first.focus()
        for key in ("ArrowRight", "x", "Enter"):
            page.keyboard.press(key)
        page.locator("#large img[alt='night/1.png']").wait_for()
        assert serious(page) == []
        page.keyboard.press("4")
        page.get_by_text("saved 4 for night/1.png").wait_for()
        page.keyboard.press("ArrowRight")
        page.locator("#large img[alt='2.png']").wait_for()
        page.keyboard.press("2")
        page.get_by_text("saved 2 for 2.png").wait_for()
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.querySelector('img').alt").startswith("2.png")
        page.get_by_text("1 selected").wait_for()
        assert page.locator("img[alt*='rated 4']").count() == 1
    with out.open() as file:
        rows = [(row["image"], row["rating"], row["rater"], row["rating_scale"]) for row in csv.DictReader(file)]
    assert rows == [("night/1.png", "4", "ann", "1-5"), ("2.png", "2", "ann", "1-5")]


@needs_browser
def test_twenty_thousand_images_scroll(browser, tmp_path):
    """The first screen comes within a second, and few tiles are in the page at once."""
    photograph(0).save(tmp_path / "first.png")
    for i in range(20_000):
        os.link(tmp_path / "first.png", tmp_path / f"{i:05}.png")
    rows = [f"{i:05}.png,{i / 20_000:.4f},,,,," for i in range(20_000)]
    (tmp_path / "scores.csv").write_text(COLUMNS + "\n".join(rows) + "\n")
    with serving("browse", tmp_path / "scores.csv", tmp_path) as server:
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        page, started = context.new_page(), time.monotonic()
        page.goto(server.address)
        page.locator("img[alt^='00000.png']").wait_for()
        shown = time.monotonic() - started
        assert names(page)[0] == "00000.png"
        page.locator(".open").first.focus()
        page.keyboard.press("End")
        page.locator("img[alt^='19999.png']").wait_for()
        for position in range(0, 500_000, 50_000):
            page.evaluate(f"document.getElementById('scroller').scrollTop = {position}")
        longest = page.evaluate(
            """async () => {
                const scroller = document.getElementById('scroller'), gaps = [];
                let before = performance.now();
                for (let i = 0; i < 60; i += 1) {
                    scroller.scrollTop += 400;
                    await new Promise(requestAnimationFrame);
                    gaps.push(performance.now() - before);
                    before = performance.now();
                }
                return gaps.sort((a, b) => a - b)[57];
            }"""
        )
        tiles = page.locator(".tile").count()
        context.close()
    assert shown < 3  # half a second on an idle machine
    assert longest < 250  # ms a frame
    assert tiles < 120


@needs_browser
def test_a_vote_is_for_the_image_that_is_shown_while_others_are_scored(browser, tmp_path):
    names = ["b.png", "c.png", "a.png"]
    for i, name in enumerate(names):
        photograph(i).save(tmp_path / name)
    catalogue = Catalogue([Entry("b.png", tmp_path / "b.png", 0.5, None, None, None, "", "")], 3)
    out = tmp_path / "ratings.csv"
    routes = browse_routes(catalogue, Thumbnails(tmp_path / "t"), tmp_path, out, "acr", "")
    with opened_routes(routes) as address, opened(browser, address) as page:
        page.locator(".open").first.click()
        page.locator("#large img[alt='b.png']").wait_for()
        for name, quality in (("c.png", 0.1), ("a.png", 0.2)):  # both worse
            catalogue.entries.append(Entry(name, tmp_path / name, quality, None, None, None, "", ""))
        page.get_by_text("3 images").wait_for()
        page.keyboard.press("4")  # who rates?
        page.keyboard.type("ann")
        page.locator("#large").focus()
        page.keyboard.press("4")
        page.get_by_text("saved 4 for b.png").wait_for()
        page.keyboard.press("ArrowLeft")
        page.locator("#large img[alt='a.png']").wait_for()
    assert ",ann,1-5," in out.read_text()
    assert out.read_text().splitlines()[1].startswith("b.png,4,ann")


@needs_browser
def test_the_gallery_fills_while_a_model_scores_and_fits_a_phone(browser, folder, tmp_path, fsiqa, quick, table):
    labels = table([{"image": f"photo{i}.png", "score": i} for i in range(6)])
    assert fsiqa("adapt", "--labels", labels, "--config", "gp", "--out", tmp_path / "gp", *quick).code == 0
    with (
        serving("browse", tmp_path / "gp", folder, "-o", tmp_path / "votes.csv", "--scale", "continuous") as server,
        opened(browser, server.address, **PHONE) as page,
    ):
        page.get_by_text("13 images").wait_for()
        assert len(names(page)) >= 4
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator(".open").first.tap()
        page.fill("#rater", "bob")
        page.fill("#value", "62")
        page.locator(".vote").tap()
        page.get_by_text("saved 62").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert serious(page) == []
    assert ",62,bob,0-100," in (tmp_path / "votes.csv").read_text()


def test_the_end_does_not_wait_for_a_model(fsiqa, folder, monkeypatch):
    """What it has begun takes seconds, and to exit meanwhile would be an abort."""
    scoring = threading.Thread(target=time.sleep, args=(1,))
    catalogue = Catalogue([], 3, scoring=scoring)
    scoring.start()
    assert catalogue.end(0.01) is False
    assert catalogue.stop.is_set()
    monkeypatch.setattr("fewshot_iqa.app.browse.score_folder", lambda *_: catalogue)
    monkeypatch.setattr("fewshot_iqa.app.browse.serve", lambda *_, **__: None)
    monkeypatch.setattr("fewshot_iqa.app.browse.PATIENCE", 0.01)
    monkeypatch.setattr(os, "_exit", lambda code: (_ for _ in ()).throw(SystemExit(70 + code)))
    assert fsiqa("browse", folder / "model.onnx", folder).code == 2  # there is no such model
    (folder / "model.onnx").touch()
    assert fsiqa("browse", folder / "model.onnx", folder).code == 70
    (folder / "model.onnx").unlink()
    assert catalogue.end() is True
    assert Catalogue([], 0).end() is True

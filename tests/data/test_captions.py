"""Lists of captions, in all the forms that they come in."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from elman.data.images.captions import captioned_pictures, pictures_in
from elman.data.images.nearest import nearest_pictures
from elman.data.synthetic.scenes import COLOURS, RELATIONS, SIDE, scenes
from elman.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Three pictures, two of them in a folder below."""
    (tmp_path / "png").mkdir()
    for number, name in enumerate(("a.png", "png/b.png", "png/c.jpg")):
        Image.new("RGB", (8, 6), (number * 80,) * 3).save(tmp_path / name)
    return tmp_path


def said(source):
    return {record.file.name: record.captions for record in source}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


WANTED = {"a.png": ("one", "more"), "b.png": ("two",)}
COCO = {
    "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
    "annotations": [
        {"image_id": 7, "id": 1, "caption": "one"},
        {"image_id": 8, "id": 2, "caption": " two\n"},
        {"image_id": 7, "id": 3, "caption": "more"},
    ],
}
FORMS = {
    "captions.csv": "file,caption\na.png,one\nb.png,two\na.png,more\n",
    "some.tsv": "path\tgroup\ttext\na.png\tx\tone\npng/b.png\ty\ttwo\na.png\tx\tmore\n",
    "many.jsonl": '{"image": "a.png", "captions": ["one", "more"]}\n'
    '{"image": "b.png", "captions": ["two"]}\n',
    "coco.json": json.dumps(COCO),
    "lines.json": json.dumps(COCO, indent=1),
    "Flickr8k.token.txt": "a.png#0\tone\nb.png#0\ttwo\na.png#1\tmore\n",
    "captions.txt": 'image,caption\na.png,one\nb.png,"two"\na.png,more\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_each_picture_once_with_all_its_captions(folder, name):
    assert said(captioned_pictures([write(folder / name, FORMS[name])])) == WANTED


def test_a_folder_has_its_table_in_it_and_silent_pictures_are_counted(folder):
    write(folder / "captions.csv", FORMS["captions.csv"])
    write(folder / "other.csv", "x,y\n")
    source = captioned_pictures([folder])
    assert said(source) == WANTED
    assert re.search(r"1 x picture without a caption \(first: .*c.jpg\)", str(source.skipped))
    write(folder / "metadata.csv", "x,y\n")
    with pytest.raises(DataError, match=r"must hold one table.*captions.csv, metadata.csv"):
        captioned_pictures([folder])


def test_several_lists_say_more_of_one_picture(folder):
    one = write(folder / "one.csv", "file,caption\na.png,one\n")
    two = write(folder / "two.csv", "file,caption\na.png,more\na.png,one\nb.png,two\n")
    assert said(captioned_pictures([one, two])) == WANTED


def test_pictures_lie_elsewhere(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    file = write(other / "a.csv", "file,caption\na.png,one\na.png,more\nb.png,two\n")
    with pytest.raises(DataError, match=r"a.csv: line 2: there is no picture 'a.png'.*--images"):
        list(captioned_pictures([file]))
    assert said(captioned_pictures([file], images=folder)) == WANTED


def test_what_is_not_whole_is_counted(folder):
    text = "file,caption\na.png,one\n,lost\nb.png,  \na.png,more\nb.png,two\n,\n\n"
    source = captioned_pictures([write(folder / "a.csv", text)])
    assert said(source) == WANTED
    assert source.skipped.counts == {
        "caption without a picture": 1,
        "picture without a caption": 1,
        "row without anything": 1,
        "empty line": 1,
    }


def test_a_missing_picture_stops_or_is_counted(folder):
    file = write(folder / "a.csv", FORMS["captions.csv"] + "gone.png,here\n")
    with pytest.raises(DataError, match=r"line 5: there is no picture 'gone.png'.*--skip-bad"):
        list(captioned_pictures([file]))
    source = captioned_pictures([file], skip_bad=True)
    assert said(source) == WANTED
    assert source.skipped.counts == {"caption whose picture is missing": 1}


def test_a_name_that_two_pictures_have_needs_its_path(folder):
    (folder / "x").mkdir()
    (folder / "x" / "b.png").write_bytes((folder / "png" / "b.png").read_bytes())
    file = write(folder / "a.csv", "file,caption\nb.png,two\n")
    with pytest.raises(DataError, match=r"line 2: which picture is 'b.png'\?"):
        list(captioned_pictures([file]))


def test_coco_counts_captions_and_pictures_without_the_other(folder):
    more = json.loads(json.dumps(COCO))
    more["images"].append({"id": 9, "file_name": "c.jpg"})
    more["annotations"].append({"image_id": 10, "caption": "lost"})
    source = captioned_pictures([write(folder / "coco.json", json.dumps(more))])
    assert said(source) == WANTED
    assert source.skipped.counts == {"caption without a picture": 1, "picture without a caption": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "file,what\na.png,x\n", "which column is the caption"),
        ("a.csv", "what,caption\na.png,x\n", "which column is the picture"),
        ("a.jsonl", '{"file": "a.png", "caption": 3}\n', "line 1: 'caption' must be a text or a"),
        ("a.json", '{"images": [],\n "annotations": [{"image_id": 1}]}', "have no captions"),
        ("a.json", '{"images": [{"id": 1}],\n "annotations": []}', "must be COCO's captions"),
        ("a.json", "[1,\n", "is no JSON"),
        ("a.txt", "hello\n", "line 1: expected a picture's name with a number"),
        ("a.txt", "a.png#0\tone\nhello\n", "line 2: expected 'a.jpg#0<TAB>a caption'"),
        ("a.txt", "image,caption\na.png,x,y\n", "line 2: has 3 columns"),
    ],
)
def test_what_cannot_be_read_says_where(folder, name, text, message):
    with pytest.raises(DataError, match=message):
        list(captioned_pictures([write(folder / name, text)]))


def test_no_file_and_no_folder(tmp_path):
    with pytest.raises(DataError, match="no file is given"):
        captioned_pictures([])
    file = write(tmp_path / "a.csv", "file,caption\na.png,x\n")
    with pytest.raises(DataError, match=r"no: is no folder of pictures; name one with --images"):
        captioned_pictures([file], images=tmp_path / "no")


def test_pictures_to_predict_need_no_captions(folder):
    names = ["a.png", "b.png", "c.jpg"]
    assert [path.name for path in pictures_in(folder)] == names
    assert [path.name for path in pictures_in(folder / "a.png")] == ["a.png"]
    file = write(folder / "new.csv", "file\na.png\npng/c.jpg\n")
    assert list(pictures_in(file)) == [folder / "a.png", folder / "png" / "c.jpg"]
    coco = write(folder / "coco.json", FORMS["coco.json"])
    assert [path.name for path in pictures_in(coco)] == ["a.png", "b.png"]


# Scenes


def test_scenes_are_the_same_each_time_and_others_for_another_seed():
    one, two, other = (list(scenes(30, seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) and x == y for (a, x), (b, y) in zip(one, two, strict=True))
    assert [said for _, said in one] != [said for _, said in other]
    assert all(p.shape == (SIDE, SIDE, 3) and p.dtype == np.uint8 for p, _ in one)


def place_of(picture, colour):
    """The mean row and column of what has about this colour."""
    distances = np.stack([np.abs(picture.astype(int) - c).sum(2) for c in COLOURS.values()])
    mine = (distances.argmin(0) == list(COLOURS).index(colour)) & (distances.min(0) < 90)
    return np.argwhere(mine).mean(axis=0)


def test_what_is_said_of_a_scene_is_so():
    checked = Counter()
    for picture, captions in scenes(300, seed=3):
        for caption in captions:
            found = re.fullmatch(r"\w+ (\w+) \w+ ([a-z ]+) (?:a|two|three) (\w+) \w+", caption)
            if not found or found[1] == found[3]:
                continue
            (row, column), (other_row, other_column) = (place_of(picture, found[k]) for k in (1, 3))
            assert {
                "left of": column < other_column,
                "right of": column > other_column,
                "above": row < other_row,
                "below": row > other_row,
            }[found[2]], caption
            checked[found[2]] += 1
    assert set(checked) == set(RELATIONS) and min(checked.values()) > 20


# The nearest picture


@pytest.mark.parametrize("size", [(5, 9), (70, 40), (100, 10)])
def test_the_nearest_picture_is_itself_or_what_is_least_changed(size, monkeypatch):
    monkeypatch.setattr("elman.data.images.nearest.CHUNK", 4)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(11)]
    changed = [np.clip(p.astype(int) + 9, 0, 255).astype(np.uint8) for p in pictures]
    assert nearest_pictures(changed, pictures) == list(range(11))
    assert nearest_pictures(pictures[:1], [pictures[3], pictures[0], pictures[0]]) == [1]

"""Laws of a folder per label: sorted, whole, nothing from elsewhere, and each fault is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import integrity
from finetune.data import image_folder
from finetune.errors import DataError

LABELS = ("hat", "dress")  # the recipe's order, not the folder's


@pytest.fixture
def folder(tmp_path: Path, make_pictures: Callable[..., Path]) -> Path:
    return make_pictures(tmp_path / "train", {"dress": 3, "hat": 2})


def test_the_order_is_of_names_and_the_index_is_the_recipes(folder: Path) -> None:
    (folder / ".DS_Store").touch()
    (folder / "hat" / ".hidden").touch()
    found = image_folder.read(folder, LABELS)
    names = [picture.path.relative_to(folder).as_posix() for picture in found.pictures]
    assert names == ["dress/0.jpg", "dress/1.png", "dress/2.webp", "hat/0.jpg", "hat/1.png"]
    assert found.labels == (1, 1, 1, 0, 0)
    assert image_folder.labels_of(folder) == ("dress", "hat")


def test_a_picture_is_the_files_content(folder: Path) -> None:
    for picture in image_folder.read(folder, LABELS).pictures:
        assert picture.read() == picture.path.read_bytes()
        assert picture.sha256 == integrity.sha256_file(picture.path)


def test_a_link_inside_the_folder_is_followed(folder: Path) -> None:
    (folder / "hat" / "same.png").symlink_to(folder / "hat" / "1.png")
    assert len(image_folder.read(folder, LABELS)) == 6


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    outside.write_bytes((folder / "hat" / "1.png").read_bytes())
    (folder / "hat" / "2.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"hat/2\.png: is a link out of .*; copy the picture"):
        image_folder.read(folder, LABELS)


def test_a_linked_label_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "hat").rename(tmp_path / "elsewhere")
    (folder / "hat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"hat/0\.jpg: is a link out of"):
        image_folder.read(folder, LABELS)


@pytest.mark.parametrize("target", ["missing.png", "2.png"])
def test_a_link_to_nothing_or_to_itself_is_named(folder: Path, target: str) -> None:
    (folder / "hat" / "2.png").symlink_to(target)
    with pytest.raises(DataError, match=r"hat/2\.png: .*Replace or delete it"):
        image_folder.read(folder, LABELS)


def test_a_truncated_picture_is_named(folder: Path) -> None:
    path = folder / "dress" / "2.webp"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"dress/2\.webp: not a whole"):
        image_folder.read(folder, LABELS)


def test_a_huge_file_is_not_read(folder: Path) -> None:
    path = folder / "hat" / "3.png"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(DataError, match=r"hat/3\.png: has 1099511627776 bytes, the limit"):
        image_folder.read(folder, LABELS)


def test_other_things_are_named(folder: Path) -> None:
    (folder / "hat" / "more").mkdir()
    with pytest.raises(DataError, match="hat/more: is no file"):
        image_folder.read(folder, LABELS)
    (folder / "notes.txt").touch()
    with pytest.raises(DataError, match=r"notes\.txt: is no folder of a label; move it out"):
        image_folder.read(folder, LABELS)


def test_labels_and_folders_must_agree(folder: Path) -> None:
    with pytest.raises(DataError, match="train/shoes: no such folder; make it, or drop the label"):
        image_folder.read(folder, (*LABELS, "shoes"))
    with pytest.raises(DataError, match="train: has the label 'hat', the recipe's labels are"):
        image_folder.read(folder, ("dress",))


def test_no_folder_and_no_picture_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: No such file"):
        image_folder.labels_of(tmp_path / "missing")
    with pytest.raises(DataError, match="holds no folders"):
        image_folder.labels_of(tmp_path)
    (tmp_path / "hat").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        image_folder.read(tmp_path, ("hat",))


def test_clothing_reads(real_data: Path) -> None:
    folder = real_data / "clothing" / "train"
    assert len(image_folder.read(folder, image_folder.labels_of(folder))) == 1000

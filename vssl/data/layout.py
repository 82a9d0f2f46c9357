"""Which videos a dataset's folder holds, with which label, in which split: finds the reader of its layout."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vssl.config import ConfigError
from vssl.data import finegym, hmdb51, kinetics, something_something
from vssl.data.dataset_config import DatasetConfig
from vssl.data.folders import class_folders, divide, folders_in, image_folders, split_folders
from vssl.data.listing import EVALUATION_SPLITS, VIDEO_SUFFIXES, Listing
from vssl.data.lists import find_lists, find_text_lists, from_lists

Reader = Callable[[DatasetConfig, Path], Listing]

_READERS: dict[str, Reader] = {
    "lists": from_lists,
    "split-folders": lambda config, root: split_folders(root),
    "class-folders": lambda config, root: class_folders(root),
    "image-folders": lambda config, root: image_folders(root),
    "hmdb51": hmdb51.from_splits,
    "kinetics": kinetics.from_annotations,
    "something-something-v2": something_something.from_annotations,
    "finegym": finegym.from_annotations,
}


def find_videos(config: DatasetConfig, root: Path) -> Listing:
    """Read a dataset's layout.

    Raises:
        ConfigError: no such folder, nothing in it, or a list that cannot be read; names file and line.
    """
    if not root.is_dir():
        raise ConfigError(f"dataset {config.name}: no folder {root}; set data.dataset.path to the folder of the videos")
    listing = _recognised(config, root) if config.layout == "auto" else _READERS[config.layout](config, root)
    if not listing.entries and not listing.excluded:
        raise ConfigError(
            f"dataset {config.name}: no videos in {root} (layout {listing.layout}); expected <class>/<video>, "
            "<split>/<class>/<video>, or train.txt and test.txt with a path and a label per line; "
            f"suffixes: {' '.join(VIDEO_SUFFIXES)}"
        )
    if config.group:
        listing = replace(listing, entries=tuple(replace(e, group=_group(config, e.path)) for e in listing.entries))
    if listing.layout == "class-folders":
        listing = replace(listing, entries=divide(listing.entries, config.test_share))
    return listing


def _recognised(config: DatasetConfig, root: Path) -> Listing:
    """By what lies in the folder. What an earlier version read from the same files is never read otherwise."""
    if config.lists or (config.fold == 1 and find_text_lists(root)):
        return from_lists(config, root)
    names = {folder.name for folder in folders_in(root)}
    plain = "split-folders" if "train" in names and names & set(EVALUATION_SPLITS) else "class-folders"
    listing = _READERS[plain](config, root)
    published = _published(config, root)
    if published is None:
        return listing
    if len(listing.classes) < 2:  # what looks like one class is a folder of all videos
        return _READERS[published](config, root)
    note = f"the folder also holds the files of layout={published}, which are not used: name that layout to use them"
    return replace(listing, notes=(*listing.notes, note))


def _published(config: DatasetConfig, root: Path) -> str | None:
    """The layout that published files in a folder speak for."""
    if kinetics.annotation_files(root):
        return "kinetics"
    if something_something.annotation_folder(root):
        return "something-something-v2"
    if hmdb51.split_files(root, config.fold):
        return "hmdb51"
    if find_lists(root, config.fold):
        return "lists"
    return "image-folders" if image_folders(root).entries else None


def _group(config: DatasetConfig, path: str) -> str:
    match = re.search(config.group, path)
    return "" if match is None else str(match[1] if match.re.groups else match[0])

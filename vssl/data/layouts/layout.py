"""Which videos a dataset's folder holds, with which label, in which split: finds the reader of its layout."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts import finegym, hmdb51, kinetics, something_something
from vssl.data.layouts.folders import class_folders, divide, files_below, folders_in, image_folders, split_folders
from vssl.data.layouts.lists import find_lists, find_text_lists, from_lists
from vssl.data.layouts.transcoded import from_tables, is_transcoded
from vssl.data.listing import EVALUATION_SPLITS, VIDEO_SUFFIXES, Listing

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
    "transcoded": from_tables,
}


def find_videos(config: DatasetConfig, root: Path, *, earlier: str | None = None) -> Listing:
    """Read a dataset's layout.

    Args:
        config: the dataset.
        root: its folder.
        earlier: what `auto` was found to be when the dataset was first prepared: it stays that, whatever files were
            added since, or an upgrade has learnt to read. "" for a version that did not write it down.

    Raises:
        ConfigError: no such folder, nothing in it, or a list that cannot be read; names file and line.
    """
    if not root.is_dir():
        raise ConfigError(f"dataset {config.name}: no folder {root}; set data.dataset.path to the folder of the videos")
    if config.layout not in ("auto", "transcoded") and is_transcoded(root):
        raise ConfigError(
            f"dataset {config.name}: layout is {config.layout}, but {root} holds copies that a transcode stage made; "
            "data.dataset.layout=transcoded reads them, or data= with this folder"
        )
    if config.layout != "auto":
        listing = _READERS[config.layout](config, root)
    elif earlier is not None:
        listing = _READERS[earlier or _plain(config, root)](config, root)
    else:
        listing = _recognised(config, root)
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
    """By what lies in the folder: tables, lists and published annotations before the folders that videos lie in."""
    if is_transcoded(root):
        return from_tables(config, root)
    layout = _plain(config, root)
    published = None if layout == "lists" else _published(config, root)
    if published is None:
        return _READERS[layout](config, root)
    try:
        listing = _READERS[published](config, root)
    except ConfigError as error:
        raise ConfigError(
            f"{error} (the folder was taken for layout {published} by its files; data.dataset.layout={layout} reads it "
            "by its folders)"
        ) from None
    note = f"recognised as layout {published} by its files; layout={layout} would read it by its folders"
    return replace(listing, notes=(*listing.notes, note))


def _plain(config: DatasetConfig, root: Path) -> str:
    """Text lists, else the folders."""
    if config.lists or (config.fold == 1 and find_text_lists(root)):
        return "lists"
    names = {folder.name for folder in folders_in(root)}
    return "split-folders" if "train" in names and names & set(EVALUATION_SPLITS) else "class-folders"


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
    if not _has_videos(root) and image_folders(root).entries:
        return "image-folders"
    return None


def _has_videos(root: Path) -> bool:
    return any(path.lower().endswith(VIDEO_SUFFIXES) for path in files_below(root, lambda error: None))


def _group(config: DatasetConfig, path: str) -> str:
    match = re.search(config.group, path)
    return "" if match is None else str(match[1] if match.re.groups else match[0])

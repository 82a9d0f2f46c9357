"""The report on a prepared dataset: what is in it, what is not, and what a person should look at."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vssl.data.listing import UNLABELLED, Excluded, Listing
from vssl.data.preparing.leaks import Leak, Row, duplicates

_NAMED = 10  # files that are spelled out to a person; the report holds all
_FEW = 20  # classes that are counted one by one on a line


def census(
    listing: Listing,
    rows: Sequence[Row],
    excluded: Sequence[Excluded],
    accepted: Sequence[Leak],
    frame_counts: Mapping[int, int],
) -> dict[str, Any]:
    """The report as plain values, for report.json.

    Args:
        listing: what the layout named.
        rows: of the manifest.
        excluded: what is not in it.
        accepted: leaks that the config knows of.
        frame_counts: label of frames -> frames, where frames have labels.
    """
    splits = sorted({row["split"] for row in rows})
    counts = {split: Counter(row["label"] for row in rows if row["split"] == split) for split in splits}
    lengths = sorted(row["frames"] for row in rows)
    return {
        "layout": listing.layout,
        "videos": len(rows),
        "hours": round(sum(row["duration_s"] for row in rows) / 3600, 3),
        "bytes": sum(row["size"] for row in rows),
        "frames": {"least": lengths[0], "median": lengths[len(lengths) // 2], "most": lengths[-1]},
        "sizes": _most_common(f"{row['width']}x{row['height']}" for row in rows),
        "rates": _most_common(f"{row['fps']:.4g}" for row in rows),
        "per_class": {
            split: {name: counts[split][number] for number, name in enumerate(listing.classes)} for split in splits
        },
        "unlabelled": {split: counts[split][UNLABELLED] for split in splits if counts[split][UNLABELLED]},
        "label_gaps": {
            split: gaps
            for split in splits
            if (gaps := [name for number, name in enumerate(listing.classes) if not counts[split][number]])
        },
        "excluded": dict(Counter(one.kind for one in excluded)),
        "reasons": _most_common(re.sub(r"\d+", "#", one.reason) for one in excluded),
        **{
            kind.replace(" ", "_"): [{"path": one.path, "reason": one.why} for one in excluded if one.kind == kind]
            for kind in ("missing", "unreadable", "too short", "frame labels")
        },
        "duplicates": duplicates(rows),
        "accepted_leaks": [str(leak) for leak in accepted],
        "frames_per_label": {_frame_class(listing, label): count for label, count in sorted(frame_counts.items())},
        "ignored": list(listing.ignored),
        "notes": list(listing.notes),
    }


def tell(name: str, report: Mapping[str, Any], excluded: Sequence[Excluded], say: Callable[[str], None]) -> None:
    """Say what matters of a report, in lines for a person."""
    say(f"dataset {name}: {report['videos']} videos, layout {report['layout']}, {report['hours']:.2f} hours")
    for split, classes in report["per_class"].items():
        say(f"  {split}: {sum(classes.values()) + report['unlabelled'].get(split, 0)} videos; {_per_class(classes)}")
        if unlabelled := report["unlabelled"].get(split):
            say(f"    {unlabelled} of them without a label")
        if gaps := report["label_gaps"].get(split):
            say(f"    no video of {len(gaps)} classes: {_some(gaps)}")
    for note in report["notes"]:
        say(f"  note: {note}")
    for one in excluded[:_NAMED]:
        say(f"  excluded: {one.path}: {one.why}")
    if excluded:
        kinds = ", ".join(f"{count} {kind}" for kind, count in report["excluded"].items())
        say(f"  excluded: {len(excluded)} of {report['videos'] + len(excluded)} files ({kinds})")
    if report["duplicates"]:
        first = " and ".join(report["duplicates"][0][:2])
        say(f"  the same content twice within a split: {len(report['duplicates'])} times, e.g. {first}")
    for leak in report["accepted_leaks"][:_NAMED]:
        say(f"  accepted: {leak}")
    if report["frames_per_label"]:
        say("  frames: " + ", ".join(f"{label} {count}" for label, count in report["frames_per_label"].items()))
    if report["ignored"]:
        say(
            f"  ignored: {len(report['ignored'])} files that are no videos by their suffix, e.g. {report['ignored'][0]}"
        )


def _most_common(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common(_NAMED))


def _per_class(classes: Mapping[str, int]) -> str:
    if len(classes) <= _FEW:
        return ", ".join(f"{name} {count}" for name, count in classes.items())
    least, most = min(classes, key=lambda name: classes[name]), max(classes, key=lambda name: classes[name])
    return f"{len(classes)} classes of {classes[least]} ({least}) to {classes[most]} ({most}) videos"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _frame_class(listing: Listing, label: int) -> str:
    if label == UNLABELLED:
        return "unlabelled"
    return listing.frame_classes[label] if label < len(listing.frame_classes) else str(label)

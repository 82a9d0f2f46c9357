"""Weights from and for elsewhere, as a command.

    python -m vssl.exchange show FILE
    python -m vssl.exchange import FILE OUT [--modality rgb]
    python -m vssl.exchange export FILE OUT [--layout vicc]

`import` makes a weights file out of a checkpoint of a public code that `vssl.weights` knows; stages read such a
checkpoint as it is, so that is needed only to write down its modality. `export` writes plain state dicts: of the
backbone alone under the network's own names (for S3D those of torchvision), or a checkpoint as the public code of ViCC
reads it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vssl.inert_pickles import read_inert, without_inert
from vssl.published import export_published
from vssl.run import StageError
from vssl.weights import FOREIGN, import_foreign, read_weights, write_torch, write_weights


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vssl.exchange", description="Weights from and for elsewhere.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    show = verbs.add_parser("show", help="what a file holds")
    bring = verbs.add_parser("import", help="a weights file out of a checkpoint of public code")
    bring.add_argument("--modality", choices=("rgb", "flow"), help="what it was trained on, which no file says")
    send = verbs.add_parser("export", help="a plain state dict out of a weights file")
    send.add_argument("--layout", choices=("plain", "vicc"), default="plain")
    for verb in (show, bring, send):
        verb.add_argument("file", type=Path)
    for verb in (bring, send):
        verb.add_argument("out", type=Path)
    chosen = parser.parse_args(words)
    try:
        if chosen.verb == "show":
            print(describe(chosen.file))
        elif chosen.verb == "import":
            print(import_file(chosen.file, chosen.out, chosen.modality))
        else:
            print(export_file(chosen.file, chosen.out, chosen.layout))
    except (StageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def describe(path: Path) -> str:
    """What a file holds, in one line."""
    header, tensors, report = read_weights(path)
    size = sum(tensor.numel() for tensor in tensors.values())
    about = ", ".join(f"{key} {value}" for key, value in header.items() if key != "classes")
    return report or f"weights of {about}: {len(tensors)} tensors, {size:,} numbers"


def import_file(path: Path, out: Path, modality: str | None) -> str:
    """Write a weights file; returns what was taken and what was not.

    Raises:
        StageError: no checkpoint of a public code that is known.
    """
    try:
        content = without_inert(read_inert(path))
    except OSError:
        raise
    except Exception as error:  # whatever a damaged program stumbles over
        raise StageError(f"{path} is no file of torch.save ({type(error).__name__}: {error})") from None
    if not isinstance(content, dict):
        raise StageError(f"{path} holds {type(content).__name__}, where a checkpoint is a dictionary")
    found = import_foreign(content)
    if found is None:
        raise StageError(f"{path} is no checkpoint of the public code of {FOREIGN}")
    write_weights(out, found.header() | {"modality": modality}, found.tensors)
    return f"{out}: {found.report()}"


def export_file(path: Path, out: Path, layout: str) -> str:
    """Write plain weights, by torch.save; returns what was written.

    Raises:
        StageError: not a weights file, or a backbone that the public code does not have.
    """
    header, tensors, _ = read_weights(path)
    if layout == "vicc":
        content = export_published(header, tensors)
        write_torch(out, content)
        return f"{out}: {len(content['state_dict'])} names in the layout of ViCC's public code"
    backbone = {key.removeprefix("backbone."): t for key, t in tensors.items() if key.startswith("backbone.")}
    write_torch(out, backbone)
    return f"{out}: the {header['backbone']['name']} backbone, {len(backbone)} tensors under its own names"


if __name__ == "__main__":
    sys.exit(main())

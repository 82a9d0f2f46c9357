"""Files that say where things run: `slurm_templates/{cluster,resources}/*.yaml` and `setup/*.sh`, one's own first."""

import os
from pathlib import Path

from launch.provenance import CHECKOUT
from vssl.config import ConfigError, nearest

_SUFFIXES = {"cluster": ".yaml", "resources": ".yaml", "setup": ".sh"}


def folders(group: str, checkout: Path = CHECKOUT) -> tuple[Path, Path]:
    """Where the files of a group lie: one's own folder ($VSSL_PROFILES, else ~/.config/vssl), then the checkout."""
    own = Path(os.environ.get("VSSL_PROFILES") or "~/.config/vssl").expanduser()
    return own / group, checkout / "slurm_templates" / group


def files(group: str, checkout: Path = CHECKOUT) -> dict[str, Path]:
    """Name -> file of a group; one's own hides one of the checkout with the same name."""
    found = (path for folder in reversed(folders(group, checkout)) for path in folder.glob(f"*{_SUFFIXES[group]}"))
    return dict(sorted({path.stem: path for path in found}.items()))


def named(group: str, name: str, checkout: Path = CHECKOUT) -> Path:
    """One file of a group.

    Raises:
        ConfigError: there is none of that name.
    """
    known = files(group, checkout)
    if name not in known:
        places = " and ".join(str(folder) for folder in folders(group, checkout))
        raise ConfigError(
            f"{group} is `{name}`{nearest(name, known)}; accepted: {', '.join(known) or 'none'} (files of {places})"
        )
    return known[name]

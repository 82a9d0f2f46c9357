"""How each program of a sandbox is started."""

from collections.abc import Mapping
from pathlib import Path

from tests.slurm.daemons import SEARCH
from tests.slurm.variant import user_name


def words(name: str, folder: Path) -> list[str]:
    """The command of a program, which stays in the foreground; a name that is no program's is a node's."""
    run = folder / "run"
    if name == "munged":
        files = [f"--socket={run}/munge", f"--pid-file={run}/munged.pid", f"--seed-file={run}/munge.seed"]
        log = f"--log-file={folder}/log/munged.log"
        return [name, "--foreground", "--force", f"--key-file={folder}/munge.key", *files, log]
    if name == "mariadb-install-db":
        options = ["--skip-test-db", "--skip-name-resolve", "--auth-root-authentication-method=normal"]
        return [name, *_database_options(folder), *options]
    if name == "mariadbd":
        files = [f"--socket={run}/sql", f"--pid-file={run}/mariadbd.pid"]
        return [name, *_database_options(folder), *files, "--skip-networking", "--skip-grant-tables"]
    return [name, "-D"] if name in ("slurmctld", "slurmdbd") else ["slurmd", "-D", "-N", name]


def environment(folder: Path) -> Mapping[str, str]:
    """What a program finds in its environment; the database's socket can be named to slurmdbd in no other way."""
    return {
        "PATH": SEARCH,
        "LANG": "C.UTF-8",
        "SLURM_CONF": f"{folder}/slurm.conf",
        "MYSQL_UNIX_PORT": f"{folder}/run/sql",
    }


def _database_options(folder: Path) -> list[str]:
    """Nothing has to survive a power cut here, so nothing waits for the disk."""
    return [
        "--no-defaults",
        f"--datadir={folder}/database",
        f"--user={user_name()}",
        "--innodb-log-file-size=4M",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-flush-method=nosync",
        "--innodb-doublewrite=OFF",
        "--sync-frm=OFF",
    ]

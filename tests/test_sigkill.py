"""Processes of stages that are really killed, at random moments, and gone on with by the same line."""

import random
import shutil
from pathlib import Path

from launch.pipeline import main
from launch.running.claims import attempts
from tests.kills import SAVE_EVERY, STAGES, STEPS_PER_EPOCH, Victim, killing, line, moments, write_sweep
from tests.lines import MainLine, folder_of, run_here
from tests.tiny_stages import fingerprint
from vssl.artifacts import StageFolder

EPOCHS, KILLS = 20, 3


def test_killed_stages_end_with_the_bits_of_calm_ones(main_line: MainLine, tmp_path: Path) -> None:
    """Nine kills: three of a single-stream, of a cross-stream pretraining and of a linear probe, two at a time."""
    sweep, store = write_sweep(tmp_path), main_line.root
    calm_store = Path(shutil.copytree(store, tmp_path / "calm", symlinks=True))
    calm = run_here(*line(sweep, calm_store, EPOCHS))
    assert calm.stages("done in") == sorted(STAGES), calm.out + calm.err

    rng = random.Random(1)
    victims = {}
    for name in STAGES:
        folder = StageFolder(store / "stages" / folder_of(calm_store, "killed", name).root.name)
        victims[name] = Victim(folder, moments(rng, KILLS, EPOCHS * STEPS_PER_EPOCH))
    codes = []
    with killing(victims.values()):
        while not codes or codes[-1] != 0:
            codes.append(main(line(sweep, store, EPOCHS)))
            assert len(codes) <= 3 * KILLS + 1
    assert set(codes[:-1]) == {1}, "a killed stage has failed, until the same line goes on with it"
    for name in STAGES:
        victim = victims[name]
        assert len(victim.lost) == KILLS, name
        assert len(attempts(victim.folder)) == KILLS + 1, name
        assert max(victim.lost) <= SAVE_EVERY, name
        assert fingerprint(victim.folder.root) == fingerprint(folder_of(calm_store, "killed", name).root), name

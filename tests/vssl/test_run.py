"""What a stage tells of how far it is."""

from pathlib import Path

from launch.running.display import position
from vssl.artifacts import StageFolder
from vssl.run import Run


def test_the_last_step_of_a_short_stage_is_told(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    run = Run(folder)
    for step in range(1, 8):  # all within a second, of which the first beat alone is written
        run.beat(step, 9)
    run.beat()
    run.close()
    assert position(folder) == (7, 9)


def test_nothing_is_told_twice_or_by_one_who_lost_the_stage(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    run = Run(folder, owns=lambda: False)
    run.beat(1, 9)
    run.beat(2, 9)
    run.close()
    assert position(folder) == (1, 9)
    calm = Run(folder)
    calm.beat(3, 9)
    folder.beat.write_text("5 9\n")
    calm.close()
    assert position(folder) == (5, 9)

"""What of a pretraining's config goes with CARL, and what is refused before anything starts."""

from typing import Any

import pytest

from tests.tiny_stages import clips, framing, masking, pretraining, remembering
from vssl.config import ConfigError, build, to_mapping
from vssl.stages.pretrain_config import PretrainConfig

METHOD = {"name": "carl", "proj_dim": 6}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"data": clips("rgb")}, r"data\.sampling\.name is dense, .* set it to long"),
        ({"augment": {"name": "two-view"}}, r"augment\.name is two-view, .* set it to sequence"),
        ({"backbone": {"name": "tiny"}}, r"backbone is tiny, .* set it to frame_resnet50"),
        ({"augment": {"name": "sequence", "num_views": 1}}, "objective is scl, which compares 2"),
        ({"method": METHOD | {"objective": "tcn"}}, "set it to pairs"),
        ({"method": METHOD | {"objective": "tcc", "videos_per_loss": 3}}, r"not a multiple of method\.videos_per_loss"),
        ({"method": METHOD | {"one_class_per_loss": True}}, "videos_per_loss is 1"),
        (
            {"data": clips("rgb") | {"sampling": {"name": "long", "num_context_frames": 2}}},
            "a transformer embedder does not read",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        framing(**changes)


@pytest.mark.parametrize(
    ("method", "accepted"), [("vicc", "two-view"), ("fgkvmem", "clip-pair"), ("maskfeat", "random-resized-crop")]
)
def test_long_views_go_with_carl_alone(method: str, accepted: str) -> None:
    others = {"vicc": lambda: pretraining("rgb"), "fgkvmem": remembering, "maskfeat": masking}
    given = to_mapping(others[method]()) | {"augment": {"name": "sequence"}}
    with pytest.raises(ConfigError, match=f"method.name is {method}; set augment.name to {accepted}"):
        build(PretrainConfig, given)


def test_one_video_is_a_batch_for_carl_alone() -> None:
    assert framing(global_batch_size=1).global_batch_size == 1
    with pytest.raises(ConfigError, match="set it to at least 2"):
        pretraining("rgb", batch=1, bn_group_size=1, queue_len=0)

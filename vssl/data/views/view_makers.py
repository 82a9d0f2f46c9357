"""From the config of augmentations to what makes views."""

from vssl.data.views.augment_config import (
    ClipPairAugmentConfig,
    PretrainAugmentConfig,
    RandomResizedCropAugmentConfig,
    ResizedCropAugmentConfig,
    SequenceAugmentConfig,
    ShortSideAugmentConfig,
    TestViewConfig,
    TrainAugmentConfig,
)
from vssl.data.views.clip_views import ClipPairView, LegacyTestView, RandomResizedCropView, ShortSideView
from vssl.data.views.drawn import ClassifyView, TestView, TwoView, ViewMaker
from vssl.data.views.long_views import SequenceViews
from vssl.data.views.resized_views import ResizedCropView, ScaledTestView


def view_for_pretraining(config: PretrainAugmentConfig, crop_size: int) -> ViewMaker:
    """Two views of a video, or one for an objective that looks at one or compares videos."""
    if isinstance(config, RandomResizedCropAugmentConfig):
        return RandomResizedCropView(config, crop_size)
    if isinstance(config, SequenceAugmentConfig):
        return SequenceViews(config, crop_size)
    if isinstance(config, ClipPairAugmentConfig):
        return ClipPairView(config, crop_size)
    return TwoView(config, crop_size)


def view_for_training(config: TrainAugmentConfig, crop_size: int) -> ViewMaker:
    """One view of a video, to learn its class from."""
    if isinstance(config, RandomResizedCropAugmentConfig):
        return RandomResizedCropView(config, crop_size)
    if isinstance(config, ShortSideAugmentConfig):
        return ShortSideView(config, crop_size)
    if isinstance(config, ResizedCropAugmentConfig):
        return ResizedCropView(config, crop_size)
    return ClassifyView(config, crop_size)


def view_for_testing(config: TestViewConfig, crop_size: int, *, one_clip: bool = False) -> ViewMaker:
    """The clips of a test video, each in its crops; `one_clip`: one random clip in the centre."""
    if config.legacy_views is not None:
        return LegacyTestView(config, config.legacy_views, crop_size)
    if config.short_side and not one_clip:
        return ScaledTestView(config, crop_size)
    return TestView(config, crop_size, one_clip=one_clip)

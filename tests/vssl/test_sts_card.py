"""Where each point of STS's card (section 13), and each file of its golden numbers, is held by a test."""

import pytest

from tests.cards import assert_files_have_tests, assert_tests_are_there

BACKBONES, STS = "tests.vssl.backbones.test_sts_backbones", "tests.vssl.nn.test_sts"
BACKBONES_GOLDENS = f"{BACKBONES}_goldens"
STAGES, FILES = "tests.vssl.stages.test_image_pretraining", "tests.vssl.test_published_sts"
SEGMENTS, CROPS, SCORES = (
    f"tests.vssl.{name}" for name in ("data.test_sampling_segments", "data.test_crops", "evals.test_scores_of_videos")
)
OPTIM, BCE = "tests.vssl.test_optim", "tests.vssl.losses.test_binary_cross_entropy:test_point_13_golden"
LAMB, MCA = "tests.vssl.test_lamb", "tests.vssl.evals.test_mean_class_accuracy:test_point_11_golden"
REPEATS = "tests.vssl.data.test_repeats:test_sts_point_13_groups_get_what_the_originals_gpus_get"
PRECISE = "tests.vssl.nn.test_precise_bn:test_precise_statistics_golden"
POINTS = {
    1: [f"{STS}:test_point_01_golden", f"{BACKBONES_GOLDENS}:test_point_01_factored_convolutions_golden"],
    2: [f"{STS}:test_point_02_the_dynamic_half_is_plain_and_the_static_one_sees_one_frame"],
    3: [
        f"{STS}:test_point_03_switching_keeps_names_and_shapes",
        f"{BACKBONES}:test_point_03_switched_networks_load_each_others_weights",
    ],
    4: [f"{BACKBONES}:test_points_03_and_04_parameters_shapes_and_work"],
    5: [
        f"{BACKBONES}:test_point_05_of_one_frame_the_middle_tap_alone_learns",
        f"{LAMB}:test_point_05_taps_without_gradient_change_by_the_decay_alone",
    ],
    6: [
        f"{FILES}:test_point_06_every_name_of_a_published_file_is_one_here",
        f"{STAGES}:test_point_06_of_a_classifier_the_hidden_layers_weight_alone_is_taken",
    ],
    7: [f"{FILES}:test_point_07_spread_golden"],
    8: [f"{BACKBONES_GOLDENS}:test_point_08_golden_on_videos", f"{BACKBONES_GOLDENS}:test_point_08_golden_on_images"],
    9: [
        f"{SEGMENTS}:test_test_clips_equal_the_originals",
        f"{SEGMENTS}:test_ten_views_of_a_short_video_are_one_view",
        f"{SEGMENTS}:test_sparse_clips_are_one_frame_of_each_part",
    ],
    10: [
        "tests.vssl.data.test_sts_views:test_point_10_three_squares_start_end_middle_each_with_all_clips",
        f"{CROPS}:test_three_crops_equal_the_originals",
        f"{STAGES}:test_point_10_views_are_averaged_as_asked_for",
        f"{SCORES}:test_averages_of_views_equal_the_originals",
        f"{SCORES}:test_averaged_probabilities_sum_to_one",
    ],
    11: [MCA],
    12: [f"{OPTIM}:test_sts_point_12_fine_tuning_golden", f"{OPTIM}:test_sts_point_12_images_golden"],
    13: [f"{LAMB}:test_point_13_lamb_golden", BCE, REPEATS, PRECISE],
    14: [
        f"{STAGES}:test_point_14_sparse_clips_one_at_a_time",
        f"{STS}:test_point_14_odd_sizes_under_a_stride_are_refused",
    ],
    15: [f"{STAGES}:test_points_06_and_15_images_then_videos_then_views"],
}

GOLDENS = {
    "augment": f"{CROPS}:test_sts_crops_equal_the_originals",
    "backbones_finetune": f"{BACKBONES_GOLDENS}:test_point_08_golden_on_videos",
    "backbones_pretrain": f"{BACKBONES_GOLDENS}:test_point_08_golden_on_images",
    "bce_mixup": BCE,
    "blocks": f"{BACKBONES_GOLDENS}:test_blocks_golden",
    "checkpoint": f"{FILES}:test_point_07_spread_golden",
    "heads": "tests.vssl.nn.test_heads:test_sts_heads_golden",
    "lamb": f"{LAMB}:test_point_13_lamb_golden",
    "lr_finetune": f"{OPTIM}:test_sts_point_12_fine_tuning_golden",
    "lr_pretrain": f"{OPTIM}:test_sts_point_12_images_golden",
    "metrics": MCA,
    "precise_bn": PRECISE,
    "r2plus1d_conv": f"{BACKBONES_GOLDENS}:test_point_01_factored_convolutions_golden",
    "repeat_aug": REPEATS,
    "sampling": f"{SEGMENTS}:test_test_clips_equal_the_originals",
    "sts_conv": f"{STS}:test_point_01_golden",
    "views": f"{SCORES}:test_a_network_sees_the_clips_that_the_originals_sees",
}


@pytest.mark.parametrize("point", range(1, 16))
def test_every_point_has_its_test(point: int) -> None:
    assert_tests_are_there(POINTS[point])


def test_every_golden_file_has_its_test() -> None:
    assert_files_have_tests("sts", GOLDENS)

"""Where each point of the card of STS (section 13) is held: a point whose test is renamed away is missed here."""

import importlib

import pytest

BACKBONES, STS = "tests.vssl.backbones.test_sts_backbones", "tests.vssl.nn.test_sts"
STAGES, FILES = "tests.vssl.stages.test_image_pretraining", "tests.vssl.test_published_sts"
POINTS = {
    1: [f"{STS}:test_point_01_golden", f"{BACKBONES}:test_point_01_factored_convolutions_golden"],
    2: [f"{STS}:test_point_02_the_dynamic_half_is_plain_and_the_static_one_sees_one_frame"],
    3: [
        f"{STS}:test_point_03_switching_keeps_names_and_shapes",
        f"{BACKBONES}:test_point_03_switched_networks_load_each_others_weights",
    ],
    4: [f"{BACKBONES}:test_points_03_and_04_parameters_shapes_and_work"],
    5: [
        f"{BACKBONES}:test_point_05_of_one_frame_the_middle_tap_alone_learns",
        "tests.vssl.test_lamb:test_point_05_taps_without_gradient_change_by_the_decay_alone",
    ],
    6: [
        f"{FILES}:test_point_06_every_name_of_a_published_file_is_one_here",
        f"{STAGES}:test_point_06_of_a_classifier_the_hidden_layers_weight_alone_is_taken",
    ],
    7: [f"{FILES}:test_point_07_spread_golden"],
    8: [f"{BACKBONES}:test_point_08_golden_on_videos", f"{BACKBONES}:test_point_08_golden_on_images"],
    9: [
        "tests.vssl.data.test_sampling_segments:test_ten_views_of_a_short_video_are_one_view",
        "tests.vssl.data.test_sampling_segments:test_sparse_clips_are_one_frame_of_each_part",
    ],
    10: [
        "tests.vssl.data.test_sts_views:test_point_10_three_squares_start_end_middle_each_with_all_clips",
        f"{STAGES}:test_point_10_views_are_averaged_as_asked_for",
    ],
    11: ["tests.vssl.evals.test_mean_class_accuracy:test_point_11_golden"],
    12: [
        "tests.vssl.test_optim:test_sts_point_12_fine_tuning_golden",
        "tests.vssl.test_optim:test_sts_point_12_images_golden",
    ],
    13: [
        "tests.vssl.test_lamb:test_point_13_lamb_golden",
        "tests.vssl.losses.test_binary_cross_entropy:test_point_13_golden",
        "tests.vssl.data.test_repeats:test_sts_point_13_groups_get_what_the_originals_gpus_get",
        "tests.vssl.nn.test_precise_bn:test_precise_statistics_golden",
    ],
    14: [
        f"{STAGES}:test_point_14_sparse_clips_one_at_a_time",
        f"{STS}:test_point_14_odd_sizes_under_a_stride_are_refused",
    ],
    15: [f"{STAGES}:test_points_06_and_15_images_then_videos_then_views"],
}


@pytest.mark.parametrize("point", range(1, 16))
def test_every_point_has_its_test(point: int) -> None:
    for test in POINTS[point]:
        module, _, name = test.partition(":")
        assert callable(getattr(importlib.import_module(module), name))

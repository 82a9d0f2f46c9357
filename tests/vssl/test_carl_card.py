"""Where each point of CARL's card (section 13), and each file of its golden numbers, is held by a test."""

import pytest

from tests.cards import assert_files_have_tests, assert_tests_are_there

LOSSES, METHOD = "tests.vssl.losses.test_sequence_contrast", "tests.vssl.methods.test_carl"
EMBEDDERS, VIEWS = "tests.vssl.nn.test_frame_embedders", "tests.vssl.data.test_long_views"
SAMPLING, MEASURES = "tests.vssl.data.test_sampling_long", "tests.vssl.evals.test_alignment"
STAGE = "tests.vssl.stages.test_alignment"
RATES = "tests.vssl.test_optim:test_carl_point_12_rates_golden"
POINTS = {
    1: [
        f"{LOSSES}:test_point_01_targets_golden_and_nowhere_else",
        f"{LOSSES}:test_point_01_targets_are_distributions_around_the_nearest_frame",
    ],
    2: [f"{LOSSES}:test_point_02_loss_and_gradient_golden", f"{LOSSES}:test_point_02_shares_golden"],
    3: [
        f"{LOSSES}:test_point_03_views_may_be_swapped",
        f"{LOSSES}:test_point_03_masked_frames_hardly_count",
        f"{METHOD}:test_point_03_the_views_may_be_swapped",
    ],
    4: [f"{LOSSES}:test_point_04_a_batch_is_the_weighted_mean_of_its_videos"],
    5: [f"{SAMPLING}:test_point_05_views_equal_the_originals_for_the_same_draws"],
    6: [
        f"{SAMPLING}:test_point_06_crops_in_time_begin_near_one_another",
        f"{SAMPLING}:test_point_06_without_crops_in_time_views_begin_with_the_video",
        f"{VIEWS}:test_point_06_crops_in_time_overlap",
    ],
    7: [
        f"{EMBEDDERS}:test_point_07_positions_golden",
        f"{EMBEDDERS}:test_point_07_other_lengths_are_spread_over_the_trained_positions",
    ],
    8: [
        f"{EMBEDDERS}:test_point_08_attention_and_encoder_layer_golden",
        f"{EMBEDDERS}:test_point_08_transformer_embedder_golden",
        f"{EMBEDDERS}:test_point_08_masked_frames_are_seen_by_none",
    ],
    9: [
        f"{METHOD}:test_point_09_what_is_frozen_does_not_move",
        f"{METHOD}_full_size:test_point_09_sizes_of_the_published_model",
        f"{METHOD}:test_point_09_layer4_is_normalised_by_blocks",
        f"{EMBEDDERS}:test_point_09_sizes_of_the_published_embedders",
    ],
    10: [
        "tests.vssl.stages.test_initial:test_point_10_every_tensor_is_taken_from_the_right_network",
        "tests.vssl.stages.test_initial:test_point_10_a_published_file_fills_the_backbone_and_is_named",
    ],
    11: [f"{VIEWS}:test_point_11_all_frames_of_a_view_are_treated_alike"],
    12: [
        RATES,
        "tests.vssl.test_resume:test_carl_point_12_a_resumed_run_goes_on_with_the_curve_of_an_uninterrupted_one",
    ],
    13: [
        f"{MEASURES}:test_point_13_tau_and_retrieval_golden",
        f"{MEASURES}:test_point_13_probes_golden",
        f"{MEASURES}:test_point_13_progression_targets_golden",
        f"{MEASURES}:test_point_13_tau_of_one_order_is_one_and_of_none_about_zero",
    ],
    14: [
        f"{METHOD}:test_point_14_weights_hold_the_encoder_and_evaluation_leaves_the_projector_out",
        f"{STAGE}:test_point_14_embeddings_have_length_one_and_come_before_the_projector",
        f"{STAGE}:test_point_14_two_ranks_embed_what_one_does",
    ],
    15: [f"{METHOD}:test_point_15_twenty_steps_in_half_precision"],
    16: [
        f"{MEASURES}:test_point_16_warping_golden",
        f"{MEASURES}:test_point_16_warping_golden_of_one_dimension",
        f"{MEASURES}:test_point_16_the_way_is_monotone_and_as_cheap_as_any",
    ],
}
GOLDENS = {
    "augment": "tests.vssl.data.test_crops:test_carl_pixels_equal_the_originals",
    "conv_embedder": f"{EMBEDDERS}:test_conv_and_frame_embedders_golden",
    "dtw": f"{MEASURES}:test_point_16_warping_golden",
    "full_model": f"{METHOD}_full_size:test_whole_model_golden",
    "labels_and_chunks": "tests.vssl.data.test_frame_labels:test_element_labels_equal_the_originals",
    "lr_schedules": RATES,
    "metrics": f"{MEASURES}:test_point_13_tau_and_retrieval_golden",
    "samplers": f"{SAMPLING}:test_point_05_views_equal_the_originals_for_the_same_draws",
    "scl_loss": f"{LOSSES}:test_point_02_loss_and_gradient_golden",
    "tcc_loss": "tests.vssl.losses.test_cycle_consistency:test_cycle_consistency_golden",
    "tcn_and_cls_loss": "tests.vssl.losses.test_cycle_consistency:test_time_contrast_golden",
    "transformer_embedder": f"{EMBEDDERS}:test_point_08_transformer_embedder_golden",
}


@pytest.mark.parametrize("point", range(1, 17))
def test_every_point_has_its_test(point: int) -> None:
    assert_tests_are_there(POINTS[point])


def test_every_golden_file_has_its_test() -> None:
    assert_files_have_tests("carl", GOLDENS)

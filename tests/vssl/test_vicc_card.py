"""Where each point of ViCC's card (section 12), and each file of its golden numbers, is held by a test."""

import pytest

from tests.cards import assert_files_have_tests, assert_tests_are_there

METHOD, STEPS = "tests.vssl.methods.test_vicc", "tests.vssl.methods.test_vicc_goldens"
RANKS = "tests.vssl.methods.test_vicc_ranks"
SINKHORN, OPTIM = "tests.vssl.losses.test_swapped_prediction", "tests.vssl.test_optim"
QUEUE, HEADS = "tests.vssl.nn.test_embedding_queue", "tests.vssl.nn.test_heads"
BACKBONES, FILES = "tests.vssl.backbones.test_backbones", "tests.vssl.test_published"
SAMPLING, CLIPS, FLOW, VIEWS = (f"tests.vssl.data.test_{name}" for name in ("sampling", "clips", "flow", "augment"))
PROTOCOLS, SCORES = "tests.vssl.evals.test_protocols", "tests.vssl.evals.test_scores_of_videos"
CLASSIFIERS = "tests.vssl.stages.test_classifiers"
SWEEPS = "tests.launch.test_vicc_sweeps"
POINTS = {
    1: [
        f"{SINKHORN}:test_point_01_sinkhorn_rows_columns_and_shift",
        f"{SINKHORN}:test_point_01_sinkhorn_equals_slow_twin",
        f"{SINKHORN}:test_point_01_sinkhorn_of_two_ranks_is_that_of_one",
    ],
    2: [
        f"{SINKHORN}:test_point_02_sinkhorn_golden",
        f"{SINKHORN}:test_point_02_sinkhorn_golden_max_subtracted_and_overflowing",
        f"{STEPS}:test_point_02_single_loss_golden",
        f"{STEPS}:test_point_02_single_queue_golden",
        f"{STEPS}:test_point_02_cross_loss_golden",
        f"{STEPS}:test_point_02_cross_queue_golden",
        f"{RANKS}:test_point_02_distributed_golden",
        f"{OPTIM}:test_point_02_larc_golden",
        f"{OPTIM}:test_point_02_schedule_golden_cosine",
        f"{OPTIM}:test_point_02_schedule_golden_milestones",
        f"{STEPS}:test_point_02_train_steps_golden",
    ],
    3: [f"{METHOD}:test_point_03_gradient_through_the_second_clip_is_a_choice_that_leaves_the_loss_alone"],
    4: [
        f"{METHOD}:test_point_04_cross_stream_trains_the_paper_s_number_of_parameters",
        f"{METHOD}:test_point_04_second_stream_is_loaded_and_then_keeps_every_bit",
        "tests.vssl.stages.test_hand_over:test_point_04_cross_stream_starts_from_both_streams_and_keeps_the_second",
    ],
    5: [f"{METHOD}:test_point_05_main_stream_flow_is_main_stream_rgb_on_exchanged_modalities"],
    6: [
        f"{METHOD}:test_point_06_queue_life_cycle",
        f"{METHOD}:test_point_06_resumes_bit_for_bit_with_its_queues",
        f"{QUEUE}:test_point_06_queue_length_holds_whole_batches",
        f"{QUEUE}:test_point_06_queue_newest_first_and_full_after_length_over_batch",
        f"{QUEUE}:test_point_06_queue_saved_on_two_ranks_is_that_of_one",
        f"{RANKS}:test_point_02_distributed_golden",  # ranks with rows of their own
    ],
    7: [
        f"{METHOD}:test_point_07_prototypes_are_unit_at_each_forward_and_frozen_at_first",
        "tests.vssl.nn.test_prototypes:test_point_07_prototypes_become_unit_rows_and_then_keep_their_bits",
    ],
    8: [
        f"{BACKBONES}:test_point_08_backbone_golden",
        f"{BACKBONES}:test_point_08_parameters_feature_map_and_original_shapes",
    ],
    9: [
        f"{FILES}:test_point_09_every_kind_of_file_is_recognised_by_its_names",
        f"{FILES}:test_point_09_either_name_family_is_enough",
        f"{FILES}:test_point_09_the_other_backbones_too",
        f"{FILES}:test_point_09_initialisation_takes_what_the_original_takes",
    ],
    10: [
        f"{SAMPLING}:test_point_10_test_windows_equal_the_originals",
        f"{SAMPLING}:test_point_10_train_starts_cover_the_originals_range",
        f"{SAMPLING}:test_point_10_a_train_clip_equals_the_originals_for_the_same_start",
        f"{SAMPLING}:test_point_10_short_videos_are_dropped",
        f"{CLIPS}:test_point_10_length_is_the_shorter_stream_and_short_videos_are_dropped",
    ],
    11: [
        f"{FLOW}:test_point_11_flow_pictures_equal_the_originals",
        f"{FLOW}:test_point_11_no_motion_is_128_and_the_bounds_are_0_and_255",
        f"{CLIPS}:test_point_11_rgb_and_flow_of_a_clip_show_the_same_frames",
        f"{VIEWS}:test_point_11_rgb_and_flow_share_crop_flip_and_jitter",
    ],
    12: [f"{VIEWS}:test_point_12_view_statistics"],
    13: [
        f"{PROTOCOLS}:test_point_13_retrieval_equals_the_original",
        f"{PROTOCOLS}:test_point_13_fusion_joins_by_name_under_permuted_storage_order",
        f"{SCORES}:test_point_13_ten_crop_golden",
    ],
    14: [
        "tests.vssl.stages.test_linear:test_point_14_linear_probe_only_trains_the_head",
        f"{CLASSIFIERS}:test_point_14_fine_tuning_trains_the_backbone_at_a_share_of_the_rate",
        f"{OPTIM}:test_point_14_the_backbone_learns_at_a_share_of_the_rate",
    ],
    15: [
        f"{SWEEPS}:test_point_15_the_second_half_of_a_cycle_reads_what_the_first_half_just_made",
        f"{SWEEPS}:test_point_15_the_published_arguments",
        "tests.vssl.test_resume:test_point_15_killed_at_every_point_and_resumed_is_bit_equal",
    ],
}
GOLDENS = {
    "backbone_*": f"{BACKBONES}:test_point_08_backbone_golden",
    "checkpoint_keys": f"{FILES}:test_point_09_every_kind_of_file_is_recognised_by_its_names",
    "classifier": f"{HEADS}:test_classifier_golden_linear_probe",
    "crops": f"{VIEWS}:test_crops_equal_the_originals",
    "cross_loss": f"{STEPS}:test_point_02_cross_loss_golden",
    "cross_queue": f"{STEPS}:test_point_02_cross_queue_golden",
    "distributed": f"{RANKS}:test_point_02_distributed_golden",
    "flow_encode": f"{FLOW}:test_point_11_flow_pictures_equal_the_originals",
    "larc": f"{OPTIM}:test_point_02_larc_golden",
    "retrieval": f"{PROTOCOLS}:test_point_13_retrieval_equals_the_original",
    "sampler": f"{SAMPLING}:test_point_10_test_windows_equal_the_originals",
    "schedule": f"{OPTIM}:test_point_02_schedule_golden_cosine",
    "single_loss": f"{STEPS}:test_point_02_single_loss_golden",
    "single_queue": f"{STEPS}:test_point_02_single_queue_golden",
    "sinkhorn": f"{SINKHORN}:test_point_02_sinkhorn_golden",
    "tencrop": f"{SCORES}:test_point_13_ten_crop_golden",
    "train_steps": f"{STEPS}:test_point_02_train_steps_golden",
}


@pytest.mark.parametrize("point", range(1, 16))
def test_every_point_has_its_test(point: int) -> None:
    assert_tests_are_there(POINTS[point])


def test_every_golden_file_has_its_test() -> None:
    assert_files_have_tests("vicc", GOLDENS)

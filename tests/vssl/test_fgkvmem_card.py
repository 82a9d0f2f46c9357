"""Where each point of FGKVMem's card (section 13), and each file of its golden numbers, is held by a test."""

import pytest

from tests.cards import assert_files_have_tests, assert_tests_are_there

METHOD, LOSSES, STEPS = (f"tests.vssl.methods.test_fgkvmem{part}" for part in ("", "_losses", "_goldens"))
TRUNKS, MEMORY = "tests.vssl.backbones.test_slowfast_trunks", "tests.vssl.nn.test_key_value_memory"
OPTIM, MIXUP, KNN = "tests.vssl.test_optim", "tests.vssl.nn.test_mixup", "tests.vssl.evals.test_knn"
VIEWS, TIMES, LISTS = (f"tests.vssl.data.test_{name}" for name in ("clip_views", "sampling_timed", "original_lists"))
STAGES, PROBES = "tests.vssl.stages.test_fgkvmem_stages", "tests.vssl.stages.test_linear"
FILES = "tests.vssl.test_published_slowfast"
POINTS = {
    1: [f"{TRUNKS}:test_point_01_backbone_golden", f"{TRUNKS}:test_point_01_parameters_shapes_and_names"],
    2: [
        f"{MEMORY}:test_point_02_shares_are_a_distribution_per_head_and_lengths_do_not_matter",
        f"{MEMORY}:test_point_02_queries_that_are_a_key_read_its_value",
    ],
    3: [f"{STEPS}:test_point_03_memory_golden"],
    4: [f"{LOSSES}:test_point_04_what_each_loss_teaches", f"{STEPS}:test_point_03_memory_golden"],
    5: [
        f"{MEMORY}:test_point_05_centre_and_normalisation_of_two_ranks_golden",
        f"{LOSSES}:test_point_05_the_centre_moves_in_training_alone",
    ],
    6: [
        f"{METHOD}:test_point_06_swapping_the_clips_changes_nothing_and_cosine_is_what_is_logged",
        f"{STEPS}:test_point_10_whole_training_steps_golden",
    ],
    7: [
        f"{METHOD}:test_point_07_the_target_is_the_online_network_at_first_and_its_average_then",
        f"{MEMORY}:test_point_07_ema_schedule_golden",
    ],
    8: [f"{OPTIM}:test_joined_cosine_golden", f"{OPTIM}:test_joined_cosine_joins_where_the_warmup_ends"],
    9: [
        f"{OPTIM}:test_lars_golden",
        f"{OPTIM}:test_lars_takes_1d_and_zero_tensors_as_plain_nesterov_without_decay",
        f"{METHOD}:test_point_09_norms_and_biases_of_all_parts_are_spared",
    ],
    10: [f"{STEPS}:test_point_10_whole_training_steps_golden"],
    11: [
        f"{STAGES}:test_point_11_finetuning_starts_from_the_online_trunk_and_a_new_classifier",
        f"{STAGES}:test_point_11_a_probe_leaves_the_online_trunk_as_it_is",
        f"{PROBES}:test_a_plain_probe_trains_two_tensors_and_statistics_move_only_if_they_may",
    ],
    12: [
        "tests.vssl.evals.test_scores_of_videos:test_views_in_any_order_equal_the_originals",
        f"{VIEWS}:test_ten_clips_in_three_crops_are_thirty_views_the_same_every_time",
        f"{FILES}:test_a_classifier_of_the_original_is_tested_without_training",
    ],
    13: [
        f"{MIXUP}:test_mixed_clips_targets_and_draws_equal_the_originals",
        f"{MIXUP}:test_a_step_of_fine_tuning_equals_the_originals",
        f"{MIXUP}:test_point_14_the_box_is_one_for_all_frames_and_its_area_is_what_the_partner_gives",
        f"{MIXUP}:test_point_14_targets_sum_to_one_and_smoothing_is_torch_s_own",
    ],
    14: [
        f"{TIMES}:test_spread_frames_equal_the_originals",
        f"{TIMES}:test_sixteen_frames_at_stride_four",
        f"{TIMES}:test_clips_stay_inside_and_in_order",
        f"{TIMES}:test_a_short_video_repeats_its_last_frame",
        f"{VIEWS}:test_point_14_frames_of_a_clip_share_every_draw_and_two_clips_share_none",
        f"{VIEWS}:test_two_clips_have_draws_of_their_own_at_the_published_rates",
    ],
    15: [
        f"{LISTS}:test_ucf101_counts_from_0_and_its_test_videos_have_their_own_labels",
        f"{LISTS}:test_ucf101_with_a_label_of_no_class_fails_before_anything_is_trained",
        f"{LISTS}:test_hmdb51_has_51_classes_of_3570_training_and_1530_test_videos",
        f"{LISTS}:test_hmdb51_keeps_classes_apart_that_begin_alike",
        "tests.vssl.data.test_published_layouts:test_a_listed_video_that_is_missing_fails_before_anything_is_trained",
    ],
    16: [f"{KNN}:test_retrieval_golden", f"{KNN}:test_a_gallery_that_is_the_queries_has_recall_one"],
    17: ["tests.vssl.methods.test_fgkvmem_learns:test_point_17_what_moves_is_learned_without_collapse"],
}
GOLDENS = {
    "backbone_*": f"{TRUNKS}:test_point_01_backbone_golden",
    "byol_step_*": f"{STEPS}:test_point_10_whole_training_steps_golden",
    "dino_align": "tests.vssl.losses.test_concepts:test_alignment_and_its_centre_golden",
    "distributed_ws2": f"{MEMORY}:test_point_05_centre_and_normalisation_of_two_ranks_golden",
    "ema_momentum_schedule": f"{MEMORY}:test_point_07_ema_schedule_golden",
    "finetune_mixup_step": f"{MIXUP}:test_a_step_of_fine_tuning_equals_the_originals",
    "knn": f"{KNN}:test_knn_golden",
    "lars_sgd": f"{OPTIM}:test_lars_golden",
    "lr_schedule": f"{OPTIM}:test_joined_cosine_golden",
    "memory_*": f"{STEPS}:test_point_03_memory_golden",
    "mixup": f"{MIXUP}:test_mixed_clips_targets_and_draws_equal_the_originals",
    "multiview_ensemble": "tests.vssl.evals.test_scores_of_videos:test_views_in_any_order_equal_the_originals",
    "retrieval": f"{KNN}:test_retrieval_golden",
    "spatial_sampling": "tests.vssl.data.test_crops:test_fgkvmem_crops_equal_the_originals",
    "temporal_sampling": f"{TIMES}:test_spread_frames_equal_the_originals",
}


@pytest.mark.parametrize("point", range(1, 18))
def test_every_point_has_its_test(point: int) -> None:
    assert_tests_are_there(POINTS[point])


def test_every_golden_file_has_its_test() -> None:
    assert_files_have_tests("fgkvmem", GOLDENS)

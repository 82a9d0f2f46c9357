"""Where each point of the transformers' card (section 11), and each file of its golden numbers, is held by a test."""

import pytest

from tests.cards import assert_files_have_tests, assert_tests_are_there

BACKBONES = "tests.vssl.backbones"
VIT, MVIT = f"{BACKBONES}.test_vit_video", f"{BACKBONES}.test_mvit"
VIT_GOLDENS, VIT_FULL_SIZE = f"{VIT}_goldens", f"{VIT}_full_size"
MASKFEAT, OPTIM = "tests.vssl.methods.test_maskfeat", "tests.vssl.test_optim_transformers"
INIT, FILES = "tests.vssl.test_image_init", "tests.vssl.test_published_vtransformer"
SAMPLING, CROPS = "tests.vssl.data.test_sampling_linspace", "tests.vssl.data.test_crops"
STAGES, MIXUP = "tests.vssl.stages.test_transformer_stages", "tests.vssl.nn.test_mixup"
POINTS = {
    1: [
        f"{VIT_FULL_SIZE}:test_point_01_parameters_and_names",
        f"{MVIT}:test_point_01_parameters_and_names",
        f"{MASKFEAT}:test_point_01_parameters_of_the_published_network",
    ],
    2: [
        f"{VIT}:test_point_02_a_batch_is_its_samples",
        f"{VIT_GOLDENS}:test_point_02_timesformer_golden",
        f"{VIT_GOLDENS}:test_point_02_vivit_golden",
        f"{VIT_GOLDENS}:test_the_originals_factorised_encoder_hands_on_other_clips_class_tokens",
        f"{BACKBONES}.test_batch_neighbours:test_a_clip_means_the_same_in_every_batch",
    ],
    3: [
        f"{VIT}:test_point_03_at_first_a_divided_network_knows_no_order_of_frames",
        f"{INIT}:test_point_03_a_still_clip_gives_the_class_token_of_torchvisions_network",
    ],
    4: [f"{VIT}:test_point_04_the_step_over_time_leaves_the_class_token_alone"],
    5: [f"{INIT}:test_point_05_inflated_patches_of_still_clips_are_the_images"],
    6: [f"{INIT}:test_point_06_and_07_image_weights_golden", f"{INIT}:test_point_06_mae_golden"],
    7: [
        f"{VIT_FULL_SIZE}:test_point_07_the_factorised_encoder_has_a_time_for_the_class_token_too",
        f"{INIT}:test_point_06_and_07_image_weights_golden",
    ],
    8: [
        f"{MASKFEAT}:test_point_08_hog_golden",
        f"{MASKFEAT}:test_point_08_clips_at_once_are_cells_one_by_one",
        f"{MASKFEAT}:test_point_08_flat_cells_are_zero_and_others_are_of_length_one_at_any_contrast",
    ],
    9: [
        f"{MASKFEAT}:test_point_09_cube_masks_golden",
        f"{MASKFEAT}:test_point_09_what_is_hidden_is_within_its_budget",
    ],
    10: [
        f"{MASKFEAT}:test_point_10_loss_golden",
        f"{MASKFEAT}:test_point_10_network_golden",
        f"{MASKFEAT}:test_point_10_everything_learns_in_pretraining_and_what_is_hidden_is_not_seen",
        f"{MASKFEAT}:test_point_10_later_stages_get_a_backbone_without_decoder",
    ],
    11: [f"{OPTIM}:test_point_11_schedules_golden"],
    12: [
        f"{OPTIM}:test_point_12_groups_of_timesformer_golden",
        f"{OPTIM}:test_point_12_groups_and_layers_of_mvit_golden",
        f"{MVIT}:test_point_12_layers_run_from_the_patches_to_the_last_norm",
    ],
    13: [
        f"{SAMPLING}:test_windows_equal_the_originals",
        f"{SAMPLING}:test_point_13_windows_are_spread_from_their_first_frame_to_their_last",
        f"{STAGES}:test_point_13_frames_of_a_clip_are_changed_alike",
        "tests.vssl.data.test_decode:test_any_frames_equal_those_of_a_full_decode",
    ],
    14: [
        f"{MIXUP}:test_point_14_videotransformer_mixes_the_same_way",
        f"{MIXUP}:test_point_14_the_box_is_one_for_all_frames_and_its_area_is_what_the_partner_gives",
        f"{MIXUP}:test_point_14_targets_sum_to_one_and_smoothing_is_torch_s_own",
        "tests.vssl.stages.test_classifiers:test_point_14_mixup_of_an_odd_batch_is_refused",
    ],
    15: [
        f"{CROPS}:test_point_15_video_transformer_crops_equal_the_originals",
        "tests.vssl.evals.test_scores_of_videos:test_averages_of_views_equal_the_originals",
        f"{STAGES}:test_point_15_a_classifier_of_other_classes_leaves_its_backbone",
    ],
}
GOLDENS = {
    "01_attention_ops": f"{VIT_GOLDENS}:test_the_four_attentions_along_an_axis_and_the_two_steps_of_a_row_golden",
    "02_divided_block": f"{VIT_GOLDENS}:test_divided_block_golden",
    "03_timesformer_*": f"{VIT_GOLDENS}:test_point_02_timesformer_golden",
    "04_pos_interp_joint": f"{VIT_GOLDENS}:test_position_interpolation_golden",
    "05_sincos": f"{VIT_GOLDENS}:test_sines_and_cosines_golden",
    "06_vivit_*": f"{VIT_GOLDENS}:test_point_02_vivit_golden",
    "07_weight_init": f"{INIT}:test_point_06_and_07_image_weights_golden",
    "08_schedules": f"{OPTIM}:test_point_11_schedules_golden",
    "09_param_groups": f"{OPTIM}:test_point_12_groups_of_timesformer_golden",
    "10_hog": f"{MASKFEAT}:test_point_08_hog_golden",
    "11_cube_mask": f"{MASKFEAT}:test_point_09_cube_masks_golden",
    "12_maskfeat_loss": f"{MASKFEAT}:test_point_10_loss_golden",
    "13_maskfeat_mvit_tiny": f"{MVIT}:test_tiny_network_golden",
    "14_mixup": f"{MIXUP}:test_point_14_videotransformer_mixes_the_same_way",
    "15_temporal_sampling": f"{SAMPLING}:test_windows_equal_the_originals",
    "16_views": f"{CROPS}:test_point_15_video_transformer_crops_equal_the_originals",
    "17_patch_embed": f"{VIT_GOLDENS}:test_patch_embeddings_golden",
    "18_full_backbones": f"{VIT_FULL_SIZE}:test_full_size_golden",
}


@pytest.mark.parametrize("point", range(1, 16))
def test_every_point_has_its_test(point: int) -> None:
    assert_tests_are_there(POINTS[point])


def test_every_golden_file_has_its_test() -> None:
    assert_files_have_tests("vtransformer", GOLDENS)

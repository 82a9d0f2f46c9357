"""Which crops of a test window are looked at. Torch-free."""

from typing import Literal

from vssl.data.views.augment_config import TestViewConfig

TestCrops = Literal["centre", "five", "ten"]

COUNTS: dict[str, int] = {"centre": 1, "five": 5, "ten": 10}


def refuse_crops_of_crops(crops: str, view: TestViewConfig) -> None:
    """
    Raises:
        ValueError: five or ten crops of a view that is three crops already.
    """
    if crops != "centre" and view.num_crops != 1:
        raise ValueError(
            f"test_crops is {crops} and test_view.num_crops is {view.num_crops}; keep one of them: test_crops=centre, "
            "or test_view.num_crops=1"
        )
    if crops != "centre" and view.legacy_views is not None:
        raise ValueError(
            f"test_crops is {crops} and test_view.legacy_views is given, which are random crops; keep one of them: "
            "test_crops=centre, or test_view.legacy_views=null"
        )

import torch

from vssl.nn.prototypes import Prototypes


def test_point_07_prototypes_become_unit_rows_and_then_keep_their_bits() -> None:
    torch.manual_seed(0)
    for dim in (8, 128):
        prototypes = Prototypes(dim, 300)
        prototypes.renormalise()
        once = prototypes.weight.detach().clone()
        torch.testing.assert_close(once.norm(dim=1), torch.ones(300), rtol=0, atol=1e-6)
        for _ in range(20):
            prototypes.renormalise()
        assert torch.equal(prototypes.weight, once)


def test_prototypes_score_by_cosine_in_float32() -> None:
    prototypes = Prototypes(4, 3)
    prototypes.renormalise()
    scores = prototypes(prototypes.weight.detach().bfloat16())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.diagonal(), torch.ones(3), rtol=0, atol=1e-2)

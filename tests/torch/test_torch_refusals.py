"""What numbanorm.torch.functional refuses: with torch's kind of error, before anything is written."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as theirs  # noqa: E402

from numbanorm.torch import functional as ours  # noqa: E402

z = torch.zeros
WRONG = {
    "one value a channel": ("batch_norm", (z(1, 4), None, None), {"training": True}),
    "one value a channel of pictures": ("batch_norm", (z(1, 4, 1, 1), z(4), z(4)), {"training": True}),
    "one element of a sample": ("instance_norm", (z(2, 4, 1),), {}),
    "one value a group": ("group_norm", (z(1, 4), 4), {}),
    "no stored statistics": ("batch_norm", (z(2, 4), None, None), {}),
    "half of the stored statistics": ("batch_norm", (z(2, 4), z(4), None), {"training": True}),
    "half of them, of instances": ("instance_norm", (z(2, 4, 3), None, z(4)), {}),
    "no statistics at all": ("instance_norm", (z(2, 4, 3),), {"use_input_stats": False}),
    "wrong running_mean": ("batch_norm", (z(2, 4), z(3), z(4)), {"training": True}),
    "wrong running_var": ("batch_norm", (z(2, 4), z(4), z(3)), {}),
    "wrong weight": ("batch_norm", (z(2, 4), z(4), z(4), z(3)), {"training": True}),
    "wrong bias": ("batch_norm", (z(2, 4), z(4), z(4), z(4), z(5)), {"training": True}),
    "statistics with gradients": ("batch_norm", (z(2, 4), z(4, requires_grad=True), z(4)), {"training": True}),
    "features": ("layer_norm", (z(2, 4), (3,)), {}),
    "features of a weight": ("layer_norm", (z(2, 4), (4,), z(3)), {}),
    "features of a bias": ("layer_norm", (z(2, 4), (4,), z(4), z(3)), {}),
    "no features": ("layer_norm", (z(2, 4), ()), {}),
    "a number for a shape": ("layer_norm", (z(2, 4), 4), {}),
    "features about zero": ("rms_norm", (z(2, 4), (3,)), {}),
    "groups": ("group_norm", (z(2, 4), 3), {}),
    "one axis": ("group_norm", (z(4), 4), {}),
    "weight of groups": ("group_norm", (z(2, 4), 2, z(3)), {}),
    "no tensor": ("layer_norm", (np.zeros((2, 4)), (4,)), {}),
    "integers": ("layer_norm", (z(2, 4, dtype=torch.int64), (4,)), {}),
    "integers by batch": ("batch_norm", (z(2, 4, dtype=torch.int64), z(4), z(4)), {}),
    "integers by group": ("group_norm", (z(2, 4, dtype=torch.int64), 2), {}),
    "integers by instance": ("instance_norm", (z(2, 4, 3, dtype=torch.int64),), {}),
    "integers about zero": ("rms_norm", (z(2, 4, dtype=torch.int64), (4,)), {}),
    "complex": ("layer_norm", (z(2, 4, dtype=torch.complex64), (4,)), {}),
    "weight of integers": ("layer_norm", (z(2, 4), (4,), z(4, dtype=torch.int64)), {}),
    "two devices": ("layer_norm", (z(2, 4), (4,), z(4, device="meta")), {}),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("grad", [False, True])
def test_errors_are_of_torchs_kind(case, grad):
    name, given, more = WRONG[case]
    x = given[0]
    if grad and torch.is_tensor(x) and (x.is_floating_point() or x.is_complex()):
        given = (x.clone().requires_grad_(), *given[1:])
    with pytest.raises(Exception) as expected:
        getattr(theirs, name)(*given, **more)
    with pytest.raises(expected.type):
        getattr(ours, name)(*given, **more)
    for one in given:
        assert not torch.is_tensor(one) or one.is_meta or not one.detach().any(), "nothing was written"


def test_what_torch_has_no_error_for():
    x = z(2, 4)
    with pytest.raises(ValueError, match="eps must not be negative"):
        ours.layer_norm(x, (4,), eps=-1.0)
    with pytest.raises(ValueError, match="momentum must be within 0 to 1"):
        ours.batch_norm(x, z(4), z(4), training=True, momentum=2.0)
    with pytest.raises(NotImplementedError, match="sparse"):
        ours.layer_norm(x.to_sparse(), (4,))
    with pytest.raises(RuntimeError, match="must be defined for batch_renorm"):
        ours.batch_renorm(x, None, None, training=True)
    with pytest.raises(ValueError, match="r_max must be at least 1"):
        ours.batch_renorm(x, z(4), z(4), r_max=0.5)
    with pytest.raises(ValueError, match="rho must be within 0 to 1"):
        ours.batch_instance_norm(z(2, 4, 3), torch.full((4,), 1.5))
    with pytest.raises(RuntimeError, match="does not broadcast"):
        ours.normalize(x, "n c -> n", z(3))
    with pytest.raises(ValueError, match="ddof=4 needs groups of more"):
        ours.normalize(x, "n c -> n", ddof=4)
    with torch.inference_mode():
        locked = z(4)
    with pytest.raises(RuntimeError, match="outside InferenceMode"):
        ours.batch_norm(x, locked, z(4), training=True)

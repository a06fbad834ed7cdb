"""Layers on the GPU that torch finds; n/a where there is none, and for a numbanorm that knows none."""

from harness.gpu.cases import CASES
from harness.gpu.device import NoGPU, find
from harness.libraries.own import CALLS

import numbanorm as nbn

from .choice import CHOICE

SECONDS = 0.0 if CHOICE == "tiny" else 1.0
LAYERS = {
    "layer norm": "bert-base.ln, bfloat16, 32×512×768",
    "RMS norm": "llama-2-7b.norm, bfloat16, 4×4096×4096",
    "RMS norm, one token": "llama-2-7b.norm, bfloat16, 1×1×4096",
    "group norm, channels last": "sd-unet.down0.gn, channels last, float16, 16×64×64×320",
    "instance norm": "style-transfer.in1, 16×32×256×256",
    "batch norm, training": "resnet50.layer3.bn3, 256×1024×14×14",
}


def case_of(layer):
    """Return the case of a layer."""
    found = next(case for case in CASES if case.label == LAYERS[layer])
    return found.tiny() if CHOICE == "tiny" else found


class Gpu:
    params = (list(LAYERS),)
    param_names = ("layer",)
    timeout = 300
    unit = "ms"

    def setup(self, layer):
        try:
            find()
            from harness.gpu.measure import this_gpu  # which needs torch

            self.gpu = this_gpu()
            tiny = case_of(layer).tiny()
            CALLS[tiny.norm](nbn, tiny, self.gpu.arrays(tiny), None)()
        except (NoGPU, AttributeError, TypeError) as error:
            raise NotImplementedError(error) from error

    def track_on_device(self, layer):
        """Time on the device."""
        return 1e3 * self.measured(layer).seconds["numbanorm"]

    def track_queued(self, layer):
        """Time of a call in a long queue, launching included."""
        return 1e3 * self.measured(layer).queued["numbanorm"]

    def measured(self, layer):
        """Measure a layer, by itself."""
        from harness.gpu.measure import measure

        row = measure(case_of(layer), SECONDS, ["numbanorm"], self.gpu)
        if row.failed:
            raise RuntimeError(row.left_out["numbanorm"])
        return row

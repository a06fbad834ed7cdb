"""The table of what is measured on a GPU: layers of real networks, with the batches and dtypes that GPUs are given.

From a few KB, where launching is all of the time, to 1 GB. Shapes are in the order of memory, as in ../cases.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..case import Case, both
from ..cases import layer, rms

DTYPES = ("float32", "bfloat16", "float16")


def layer_norms() -> Iterator[Case]:
    """Transformers, from one token to a large batch in training, and image networks with both orders."""
    yield replace(layer("gpt2.ln", 1, 1, 768), readme=True)
    yield layer("bert-base.ln", 1, 128, 768, eps=1e-12)
    yield from in_dtypes(layer("bert-base.ln", 32, 512, 768, eps=1e-12), shown=("float32", "bfloat16"))
    yield layer("bert-large.ln", 512, 512, 1024, eps=1e-12, readme=True)
    yield replace(layer("gpt2-xl.ln", 8, 1024, 1600), dtype="float16")
    yield replace(layer("gpt3-175b.ln", 1, 2048, 12288), dtype="bfloat16", readme=True)
    yield replace(layer("gpt-neox-20b.ln", 8, 2048, 6144), dtype="float16")
    yield layer("vit-l14.ln", 64, 257, 1024, eps=1e-6)
    yield layer("swin-t.features.1.norm1", 128, 56, 56, 96)
    for name, channels, side in (("stage0", 96, 56), ("stage2", 384, 14)):
        yield from both(Case(f"convnext-t.{name}.ln", "layer_norm", (128, channels, side, side), eps=1e-6))
    yield layer("odd.run17.ln", 65537, 17)
    yield layer("odd.run131072.ln", 256, 131072)


def rms_norms() -> Iterator[Case]:
    """Language models: a token at a time, a prompt, and a batch in training."""
    for shape, shown in (((1, 1, 4096), True), ((16, 1, 4096), False), ((4, 4096, 4096), True)):
        yield replace(rms("llama-2-7b.norm", *shape, eps=1e-5), dtype="bfloat16", readme=shown)
    yield from in_dtypes(rms("llama-2-7b.norm", 1, 2048, 4096, eps=1e-5))
    yield replace(rms("llama-3-70b.norm", 8, 8192, 8192, eps=1e-5), dtype="bfloat16")
    yield replace(rms("qwen3-8b.q_norm", 1, 1, 32, 128), dtype="bfloat16")
    yield replace(rms("qwen3-8b.q_norm", 8, 4096, 32, 128), dtype="bfloat16")
    yield rms("t5-base.norm", 32, 512, 768, readme=True)
    yield rms("odd.run49.rms", 65537, 49)


def group_norms() -> Iterator[Case]:
    """Stable Diffusion 1.5 and XL, a detector at 800 by 1216, a 3-D U-Net."""
    for batch in (2, 16):
        for case in both(Case("sd-unet.down0.gn", "group_norm", (batch, 320, 64, 64), groups=32)):
            yield from in_dtypes(case, shown=("float16",) if batch == 16 else ())
    yield from in_dtypes(Case("sd-unet.mid.gn", "group_norm", (2, 1280, 8, 8), groups=32), shown=("float16",))
    for case in both(Case("sdxl-unet.down0.gn", "group_norm", (2, 320, 128, 128), groups=32)):
        yield replace(case, dtype="float16")
    for case in both(Case("sd-vae.decoder.gn", "group_norm", (1, 128, 512, 512), groups=32, eps=1e-6)):
        yield replace(case, readme=not case.last)
    large = Case("sdxl-vae.decoder.gn", "group_norm", (4, 128, 1024, 1024), groups=32, eps=1e-6, dtype="bfloat16")
    yield from both(large)
    yield Case("fcos.p3.gn", "group_norm", (16, 256, 100, 152), groups=32)
    yield Case("mask-rcnn.box-head.gn", "group_norm", (512, 256, 7, 7), groups=32)
    yield from both(Case("unet-3d.gn", "group_norm", (2, 64, 64, 64, 64), groups=8))
    yield Case("tiny.gn", "group_norm", (2, 32, 4, 4), groups=8)


def instance_norms() -> Iterator[Case]:
    """Style transfer and image translation at 256 by 256; nnU-Net on patches of 128 by 128 by 128."""
    for case in both(Case("style-transfer.in1", "instance_norm", (16, 32, 256, 256))):
        yield from in_dtypes(case, shown=("float32",))
    yield from both(Case("cyclegan.resblock.in", "instance_norm", (1, 256, 64, 64)))
    yield Case("pix2pix.down6.in", "instance_norm", (1, 512, 2, 2), readme=True)
    yield Case("nnunet.stage0.in", "instance_norm", (2, 32, 128, 128, 128), dtype="float16")
    yield Case("nnunet.stage3.in", "instance_norm", (2, 256, 16, 16, 16))


def batch_norms() -> Iterator[Case]:
    """ResNet-50 and others at 224 by 224, in training with a batch of 256 and in evaluation with one of 1 and 64."""
    stages = {"bn1": (64, 112), "layer1.bn3": (256, 56), "layer3.bn3": (1024, 14), "layer4.bn3": (2048, 7)}
    for name, (channels, side) in stages.items():
        for case in both(Case(f"resnet50.{name}", "batch_norm", (256, channels, side, side))):
            yield from in_dtypes(case, shown=("float32",) if name in ("bn1", "layer3.bn3") else ())
        for batch in (1, 64):
            for case in both(Case(f"resnet50.{name}", "batch_norm_eval", (batch, channels, side, side))):
                shown = (name, batch, case.last) in (("layer1.bn3", 64, False), ("layer4.bn3", 1, False))
                yield replace(case, dtype="float32" if batch == 1 else "float16", readme=shown)
    yield Case("vgg16-bn.features.1", "batch_norm", (64, 64, 224, 224))
    yield Case("mobilenet-v2.features.2", "batch_norm", (128, 96, 56, 56), dtype="bfloat16")
    yield Case("pointnet.bn1", "batch_norm", (32, 64, 1024))
    yield Case("mlp.bn", "batch_norm", (256, 1000), readme=True)
    yield Case("mlp.small.bn", "batch_norm", (32, 64))
    yield Case("mlp.small.bn", "batch_norm_eval", (32, 64))


def in_dtypes(case: Case, shown: Sequence[str] = ()) -> Iterator[Case]:
    """Return a case in every dtype, some of them for the README."""
    for dtype in DTYPES:
        yield replace(case, dtype=dtype, readme=dtype in shown)


CASES: Sequence[Case] = (*layer_norms(), *rms_norms(), *group_norms(), *instance_norms(), *batch_norms())

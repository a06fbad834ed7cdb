"""The one table of what is measured: normalization layers of real networks, by name, in their true shapes.

Names follow the networks' own modules where they have them. Batch sizes and image sizes are those of training or
inference in practice. Shapes are in the order of memory: (N, C, H, W), or (N, H, W, C) with channels last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod

from .case import NORMS, Case, both
from .containers import CONTAINED
from .grouped import GROUPED, Grouped


def layer(name: str, *shape: int, eps: float = 1e-5, readme: bool = False) -> Case:
    """Layer norm over the last axis."""
    return Case(name, "layer_norm", shape, last=True, eps=eps, readme=readme)


def rms(name: str, *shape: int, eps: float = 1e-6, readme: bool = False) -> Case:
    """RMS norm over the last axis."""
    return Case(name, "rms_norm", shape, last=True, eps=eps, readme=readme)


def resnet50() -> Iterator[Case]:
    """ResNet-50 at 224 by 224: the last norm of each stage, every batch and order."""
    stages = {"bn1": (64, 112), "layer1.bn3": (256, 56), "layer2.bn3": (512, 28), "layer3.bn3": (1024, 14)}
    stages["layer4.bn3"] = (2048, 7)
    shown = {("batch_norm", 32, side, False) for _, side in stages.values()} | {("batch_norm", 32, 28, True)}
    shown |= {("batch_norm_eval", 8, 56, False), ("batch_norm_eval", 8, 7, False), ("batch_norm_eval", 1, 14, True)}
    for norm in ("batch_norm", "batch_norm_eval"):
        for name, (channels, side) in stages.items():
            for batch in (1, 8, 32):
                for case in both(Case(f"resnet50.{name}", norm, (batch, channels, side, side))):
                    yield replace(case, readme=(norm, batch, side, case.last) in shown)


def other_batch_norms() -> Iterator[Case]:
    """Other image networks at 224 by 224, point clouds, and networks of dense layers."""
    for name, shape in (
        ("mobilenet-v2.features.0", (32, 32, 112, 112)),
        ("mobilenet-v2.features.2", (32, 96, 56, 56)),
        ("mobilenet-v2.features.14", (32, 576, 7, 7)),
        ("efficientnet-b0.features.4", (32, 240, 14, 14)),
        ("vgg16-bn.features.1", (8, 64, 224, 224)),
        ("vgg16-bn.features.24", (8, 512, 28, 28)),
        ("pointnet.bn1", (32, 64, 1024)),
        ("mlp.bn", (256, 1000)),
        ("mlp.small.bn", (32, 64)),
        ("mlp.wide.bn", (4096, 512)),
    ):
        yield Case(name, "batch_norm", shape, readme=name in ("mobilenet-v2.features.2", "mlp.bn"))
    for name, shape in (
        ("mobilenet-v2.features.2", (1, 96, 56, 56)),
        ("mobilenet-v2.features.18", (1, 1280, 7, 7)),
        ("efficientnet-b0.features.4", (1, 240, 14, 14)),
        ("vgg16-bn.features.1", (1, 64, 224, 224)),
        ("mlp.bn", (256, 1000)),
    ):
        yield Case(name, "batch_norm_eval", shape)


def group_norms() -> Iterator[Case]:
    """Stable Diffusion 1.5 at 512 by 512, with and without the prompt; detectors at 800 by 1216; a 3-D U-Net."""
    blocks = {"down0": (320, 64), "down1": (640, 32), "down2": (1280, 16), "mid": (1280, 8), "up1.concat": (2560, 16)}
    for name, (channels, side) in blocks.items():
        first, last = both(Case(f"sd-unet.{name}.gn", "group_norm", (2, channels, side, side), groups=32))
        yield replace(first, readme=name != "up1.concat")
        yield replace(last, readme=name in ("down0", "down2"))
    yield from both(Case("sd-vae.decoder.gn", "group_norm", (1, 128, 512, 512), groups=32, eps=1e-6))
    yield Case("mask-rcnn.box-head.gn", "group_norm", (512, 256, 7, 7), groups=32)
    yield Case("fcos.p3.gn", "group_norm", (2, 256, 100, 152), groups=32)
    yield Case("fcos.p6.gn", "group_norm", (2, 256, 13, 19), groups=32)
    yield from both(Case("unet-3d.gn", "group_norm", (1, 64, 64, 64, 64), groups=8))


def instance_norms() -> Iterator[Case]:
    """Style transfer and image translation at 256 by 256; nnU-Net on patches of 128 by 128 by 128."""
    for name, shape in (
        ("style-transfer.in1", (4, 32, 256, 256)),
        ("style-transfer.in3", (4, 128, 64, 64)),
        ("cyclegan.resblock.in", (1, 256, 64, 64)),
        ("pix2pix.down1.in", (1, 128, 64, 64)),
        ("pix2pix.down6.in", (1, 512, 2, 2)),
        ("pix2pix.discriminator.in", (1, 512, 31, 31)),
        ("nnunet.stage1.in", (2, 64, 64, 64, 64)),
        ("nnunet.stage3.in", (2, 256, 16, 16, 16)),
    ):
        shown = name in ("style-transfer.in1", "style-transfer.in3", "nnunet.stage3.in")
        yield Case(name, "instance_norm", shape, readme=shown)
    for name, shape in (("style-transfer.in1", (4, 256, 256, 32)), ("cyclegan.resblock.in", (1, 64, 64, 256))):
        yield Case(name, "instance_norm", shape, last=True)


def layer_norms() -> Iterator[Case]:
    """Transformers, and ConvNeXt, which has both orders."""
    yield layer("bert-base.ln", 1, 128, 768, eps=1e-12, readme=True)
    yield layer("bert-base.ln", 32, 512, 768, eps=1e-12, readme=True)
    yield layer("bert-large.ln", 8, 384, 1024, eps=1e-12)
    yield layer("gpt2.ln", 1, 1, 768)
    yield layer("gpt2.ln", 8, 1024, 768)
    yield layer("gpt2-xl.ln", 1, 1024, 1600, readme=True)
    yield layer("vit-b16.ln", 32, 197, 768, eps=1e-6)
    yield layer("vit-l14.ln", 8, 257, 1024, eps=1e-6)
    yield layer("deit-tiny.ln", 64, 197, 192, eps=1e-6)
    yield layer("clip.text.ln", 8, 77, 512)
    yield layer("whisper-base.ln", 1, 1500, 512)
    yield layer("swin-t.features.1.norm1", 32, 56, 56, 96)
    yield layer("swin-t.features.2.norm", 32, 28, 28, 384)
    yield layer("swin-t.features.7.norm1", 1, 7, 7, 768)
    stages = {"stage0": (96, 56), "stage1": (192, 28), "stage2": (384, 14), "stage3": (768, 7)}
    for name, (channels, side) in stages.items():
        first, last = both(Case(f"convnext-t.{name}.ln", "layer_norm", (32, channels, side, side), eps=1e-6))
        yield replace(first, readme=name in ("stage0", "stage2"))
        yield replace(last, readme=name in ("stage0", "stage3"))


def rms_norms() -> Iterator[Case]:
    """Language models: a prompt, and a token at a time."""
    yield rms("llama-2-7b.norm", 1, 2048, 4096, eps=1e-5, readme=True)
    yield rms("llama-2-7b.norm", 1, 1, 4096, eps=1e-5)
    yield rms("llama-2-7b.norm", 16, 1, 4096, eps=1e-5)
    yield rms("qwen3-8b.q_norm", 1, 1024, 32, 128)
    yield rms("t5-small.norm", 1, 64, 512)
    yield rms("t5-base.norm", 8, 512, 768, readme=True)


def moments() -> Iterator[Case]:
    """Statistics of data: colours of photographs, columns of tables, spectrogram bins, and an activation's channels."""
    for name, shape, last in (
        ("imagenet.colours", (16, 3, 224, 224), False),
        ("imagenet.colours", (16, 224, 224, 3), True),
        ("table.columns", (100_000, 30), True),
        ("table.wide.columns", (5_000, 1_000), True),
        ("speech.mel-bins", (64, 80, 1000), False),
        ("sensor.windows", (1, 10_000, 128), False),
        ("resnet50.layer2.statistics", (32, 512, 28, 28), False),
    ):
        yield Case(name, "moments", shape, last=last, readme=name in ("table.columns", "speech.mel-bins"))


def odd() -> Iterator[Case]:
    """Sizes at which kernels stumble: runs that fill no vector, and arrays of a thousand elements."""
    short = {"batch_norm": "bn", "batch_norm_eval": "bn", "group_norm": "gn", "instance_norm": "in"}
    for run in (1, 3, 17, 49):
        for norm, suffix in short.items():
            if norm != "instance_norm" or run > 1:
                batch, groups = (16, 32) if norm == "group_norm" else (64, 1)
                yield Case(f"odd.run{run}.{suffix}", norm, (batch, 256, run), groups=groups)
        if run > 1:
            yield layer(f"odd.run{run}.ln", 4099, run)
            yield rms(f"odd.run{run}.rms", 4099, run)
    for norm, suffix in short.items():
        yield Case(f"tiny.{suffix}", norm, (2, 32, 4, 4), groups=8 if norm == "group_norm" else 1)
    yield Case("tiny.ln", "layer_norm", (2, 32, 4, 4))
    yield rms("tiny.rms", 2, 16, 32)


def in_other_dtypes(cases: Sequence[Case]) -> Iterator[Case]:
    """Copies of a few large and small cases in every dtype but their own."""
    chosen = {
        ("resnet50.layer1.bn3", (32, 256, 56, 56)),
        ("resnet50.layer4.bn3", (8, 2048, 7, 7)),
        ("sd-unet.down0.gn", (2, 320, 64, 64)),
        ("sd-unet.down0.gn", (2, 64, 64, 320)),
        ("sd-vae.decoder.gn", (1, 128, 512, 512)),
        ("style-transfer.in1", (4, 32, 256, 256)),
        ("bert-base.ln", (1, 128, 768)),
        ("bert-base.ln", (32, 512, 768)),
        ("llama-2-7b.norm", (1, 2048, 4096)),
        ("llama-2-7b.norm", (16, 1, 4096)),
    }
    shown = {("bert-base.ln", "bfloat16"), ("llama-2-7b.norm", "float16")}
    for case in cases:
        if (case.name, case.shape) in chosen:
            for dtype in ("float16", "bfloat16", "float64"):
                yield replace(case, dtype=dtype, readme=(case.name, dtype) in shown and prod(case.shape) > 1e6)


_FLOAT32 = (
    *resnet50(),
    *other_batch_norms(),
    *group_norms(),
    *instance_norms(),
    *layer_norms(),
    *rms_norms(),
    *moments(),
    *odd(),
)
CASES: Sequence[Case] = (*_FLOAT32, *in_other_dtypes(_FLOAT32))

# What the gate measures: every norm, family of kernels and dtype, calls of microseconds and of a millisecond.
_GATE = (
    "resnet50.layer2.bn3, 1×512×28×28",
    "resnet50.layer4.bn3, 8×2048×7×7",
    "resnet50.layer3.bn3, channels last, 8×14×14×1024",
    "mlp.bn, 256×1000",
    "tiny.bn, 2×32×4×4",
    "resnet50.layer4.bn3, evaluation, 8×2048×7×7",
    "resnet50.layer3.bn3, evaluation, channels last, 8×14×14×1024",
    "tiny.bn, evaluation, 2×32×4×4",
    "bert-base.ln, 1×128×768",
    "bert-base.ln, float16, 1×128×768",
    "bert-base.ln, bfloat16, 1×128×768",
    "bert-base.ln, float64, 1×128×768",
    "gpt2-xl.ln, 1×1024×1600",
    "convnext-t.stage2.ln, 32×384×14×14",
    "convnext-t.stage3.ln, channels last, 32×7×7×768",
    "tiny.ln, 2×32×4×4",
    "t5-base.norm, 8×512×768",
    "llama-2-7b.norm, 16×1×4096",
    "llama-2-7b.norm, float16, 16×1×4096",
    "sd-unet.down0.gn, bfloat16, 2×320×64×64",
    "sd-unet.down1.gn, 2×640×32×32",
    "sd-unet.mid.gn, 2×1280×8×8",
    "sd-unet.down2.gn, channels last, 2×16×16×1280",
    "tiny.gn, 2×32×4×4",
    "style-transfer.in3, 4×128×64×64",
    "cyclegan.resblock.in, channels last, 1×64×64×256",
    "table.columns, 100000×30",
    "speech.mel-bins, 64×80×1000",
)
# ... and their way back.
_GATE_BACKWARD = (
    "resnet50.layer4.bn3, 8×2048×7×7",
    "mlp.bn, 256×1000",
    "bert-base.ln, 1×128×768",
    "bert-base.ln, bfloat16, 1×128×768",
    "t5-base.norm, 8×512×768",
    "sd-unet.mid.gn, 2×1280×8×8",
    "sd-unet.down2.gn, channels last, 2×16×16×1280",
    "style-transfer.in3, 4×128×64×64",
    "tiny.ln, 2×32×4×4",
)
# What stands in the README: every norm, large and small, and whatever was among the worst rows beside a peer.
_FRONT = (
    "resnet50.layer2.bn3, 32×512×28×28",
    "mlp.bn, 256×1000",
    "resnet50.layer1.bn3, evaluation, 8×256×56×56",
    "convnext-t.stage0.ln, channels last, 32×56×56×96",
    "llama-2-7b.norm, 1×2048×4096",
    "sd-unet.mid.gn, 2×1280×8×8",
    "style-transfer.in3, 4×128×64×64",
    "table.columns, 100000×30",
)
_BY_LABEL = {case.label: case for case in CASES}
FRONT: Sequence[Case] = tuple(_BY_LABEL[label] for label in _FRONT)
GATE: Sequence[Case | Grouped] = (
    *(_BY_LABEL[label] for label in _GATE),
    *(replace(_BY_LABEL[label], backward=True) for label in _GATE_BACKWARD),
    *GROUPED,
    *CONTAINED,
)


def select(cases: Sequence[Case], norms: Sequence[str] | None = None, text: str | None = None) -> list[Case]:
    """Return the cases of some norms and with some text in their labels, in the order of their norms."""
    chosen = [case for case in cases if (not norms or case.norm in norms) and (not text or text in case.label)]
    order = list(NORMS)
    return sorted(chosen, key=lambda case: order.index(case.norm) if case.norm in order else len(order))

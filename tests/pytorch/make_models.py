"""Makes the reference values that gabor's networks are tested against: torchvision's and timm's.

Weights and images are hashes of their names and indices, by the same formula here and in
src/models/tests.rs, so that the file holds results only: the logits of two images, and for each
parameter the norm of its gradient and the gradient's projection on numbers of the same kind.
Everything is computed in f64 in inference's mode: nothing is drawn at random.

Run, from any folder, with the packages numpy, safetensors, timm, torch and torchvision:

    venv/bin/python tests/pytorch/make_models.py
"""

import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from make_reference import Family
from timm.models.resnet import BasicBlock, ResNet
from torch import nn
from torchvision.models.resnet import BasicBlock as PlainBlock
from torchvision.ops import Conv2dNormActivation

CLASSES = 10
BATCH = 2

# Gradients of larger parameters are left out.
LARGEST = 1 << 22


def numbers(name, count):
    """Numbers in -1..1 by a hash of a name and an index, as f32."""
    hashes = np.arange(count, dtype=np.uint32) ^ np.uint32(zlib.crc32(name.encode()))
    hashes = hashes * np.uint32(0x9E3779B1)
    hashes = (hashes ^ hashes >> np.uint32(15)) * np.uint32(0x85EBCA77)
    hashes ^= hashes >> np.uint32(13)
    return (hashes >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def to_gabor(name, tensor):
    """A parameter or its gradient in gabor's layout."""
    if name.endswith("layer_scale"):
        return tensor.flatten()
    if tensor.dim() == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor.T if tensor.dim() == 2 else tensor


def from_gabor(name, values, like):
    """Values in gabor's layout as PyTorch has them."""
    values = torch.as_tensor(values)
    if like.dim() == 4:
        return values.permute(3, 2, 0, 1)
    return values.T if like.dim() == 2 else values.reshape(like.shape)


def value(name, like, gain):
    """The value of a parameter: weights keep the scale of what they are applied to, norms do little."""
    shape = to_gabor(name, like).shape
    if len(shape) == 1:
        is_shift = name.endswith("bias") or name.endswith("running_mean")
        base, factor = (0, 0.1) if is_shift else (1, 0.2)
    else:
        base, factor = 0, (3 * gain / int(np.prod(shape[:-1]))) ** 0.5
    values = np.float32(base) + np.float32(factor) * numbers(name, like.numel())
    return from_gabor(name, values.reshape(tuple(shape)), like)


class Cifar(nn.Module):
    """The residual networks of He et al. (2015), section 4.2, with convolutions in the shortcuts."""

    def __init__(self, depth):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        width = 16
        for stage, out in enumerate([16, 32, 64]):
            blocks = []
            for at in range(depth):
                stride = 2 if stage > 0 and at == 0 else 1
                shortcut = None
                if stride != 1:
                    conv = nn.Conv2d(width, out, 1, stride, bias=False)
                    shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))
                blocks.append(PlainBlock(width, out, stride, shortcut))
                width = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class ConvStem(nn.Module):
    """The stem of Xiao et al. (2021), of which torchvision's VisionTransformer has the like."""

    def __init__(self, width):
        super().__init__()
        layers = OrderedDict()
        before = 3
        for at in range(4):
            out = width >> (3 - at)
            layers[f"conv_bn_relu_{at}"] = Conv2dNormActivation(before, out, 3, stride=2)
            before = out
        layers["proj"] = nn.Conv2d(width, width, 1)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x.flatten(2).transpose(1, 2)


def vision_transformer(side, width, heads, depth=12):
    return timm.models.vision_transformer.VisionTransformer(
        img_size=side, patch_size=16, embed_dim=width, depth=depth, num_heads=heads, num_classes=CLASSES
    )


def vit_tiny_conv(side):
    model = vision_transformer(side, 192, 3, depth=11)
    model.patch_embed = ConvStem(192)
    return model


def tv(name):
    return lambda side: getattr(torchvision.models, name)(num_classes=CLASSES)


def cbam_resnet18(side):
    return ResNet(BasicBlock, [2, 2, 2, 2], block_args={"attn_layer": "cbam"}, num_classes=CLASSES)


# Name, size of the images, factor of the weights' variance, the network.
NETWORKS = [
    ("resnet20", 16, 1.0, lambda side: Cifar(3)),
    ("resnet18", 66, 1.0, tv("resnet18")),
    ("resnet50", 66, 1.0, tv("resnet50")),
    ("resnet152", 66, 1.0, tv("resnet152")),
    ("resnext50_32x4d", 66, 1.0, tv("resnext50_32x4d")),
    ("seresnet50", 66, 1.0, lambda side: timm.create_model("seresnet50", num_classes=CLASSES)),
    ("cbam_resnet18", 66, 1.0, cbam_resnet18),
    ("vgg16", 64, 2.0, tv("vgg16")),
    ("densenet121", 40, 1.0, tv("densenet121")),
    ("mobilenet_v2", 40, 2.0, tv("mobilenet_v2")),
    ("mobilenet_v3_large", 40, 2.0, tv("mobilenet_v3_large")),
    ("mobilenet_v3_small", 40, 2.0, tv("mobilenet_v3_small")),
    ("efficientnet_b0", 40, 2.0, tv("efficientnet_b0")),
    ("efficientnet_b5", 40, 2.0, tv("efficientnet_b5")),
    ("convnext_tiny", 40, 1.0, tv("convnext_tiny")),
    ("vit_tiny", 48, 1.0, lambda side: vision_transformer(side, 192, 3)),
    ("vit_small", 48, 1.0, lambda side: vision_transformer(side, 384, 6)),
    ("vit_tiny_conv", 48, 1.0, vit_tiny_conv),
]


def models():
    family = Family("models")
    for name, side, gain, make in NETWORKS:
        model = make(side).eval().double()
        state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
        with torch.no_grad():
            for parameter, tensor in state.items():
                tensor.copy_(value(parameter, tensor, gain))
        x = torch.as_tensor(numbers("x", BATCH * side * side * 3)).double()
        logits = model(x.reshape(BATCH, side, side, 3).permute(0, 3, 1, 2))
        dy = torch.as_tensor(numbers("dy", BATCH * CLASSES)).double().reshape(BATCH, CLASSES)
        compared = {k: v for k, v in model.named_parameters() if v.numel() <= LARGEST}
        gradients = torch.autograd.grad((logits * dy).sum(), list(compared.values()))
        norms, projections = [], []
        for parameter, gradient in zip(compared, gradients):
            flat = to_gabor(parameter, gradient).flatten()
            norms.append(flat.norm())
            direction = torch.as_tensor(numbers(f"{parameter} direction", flat.numel())).double()
            projections.append(flat @ direction)
        norms = torch.stack(norms)
        print(f"{name}: logits {logits.std():.1e}, gradients {norms.min():.1e} to {norms.max():.1e}")
        params = dict(side=side, gain=gain, names=list(state), compared=list(compared))
        tensors = dict(logits=logits, norms=norms, projections=torch.stack(projections))
        family.add(name, params, **tensors)
    return family


if __name__ == "__main__":
    models().save(Path(__file__).parent)

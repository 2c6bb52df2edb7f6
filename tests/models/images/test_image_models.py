"""The image models: parameter counts as published, shapes, gradients."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sam_bench.models.batch_norm import BatchNorm2d
from sam_bench.models.images.fastnet import FastNet
from sam_bench.models.images.pyramidnet import PyramidNet
from sam_bench.models.images.resnet import ResNet
from sam_bench.models.images.vit import ViT
from sam_bench.models.images.wrn import WideResNet

RGB32 = {"channels": 3, "size": 32}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def resnet(classes, block, depths, width=64):
    return ResNet(classes, RGB32, block=block, depths=depths, width=width)


# kuangliu/pytorch-cifar (10 classes) and weiaicunzai/pytorch-cifar100 (100 classes), as their users print them
RESNETS = [("basic", [2, 2, 2, 2], 11_173_962, 11_220_132), ("basic", [3, 4, 6, 3], 21_282_122, 21_328_292),
           ("bottleneck", [3, 4, 6, 3], 23_520_842, 23_705_252)]  # fmt: skip


@pytest.mark.parametrize(("block", "depths", "ten", "hundred"), RESNETS)
def test_resnet_counts(block, depths, ten, hundred):
    assert count(resnet(10, block, depths)) == ten
    assert count(resnet(100, block, depths)) == hundred


def test_wide_resnet_counts():
    """The paper rounds to 36.5 M (table 4); osmr/imgclsmob asserts the exact WRN-28-10; 2.77 M for 16-4 is in
    the tables of chitraz/KnowledgeDistillationForModelCompression."""
    assert count(WideResNet(10, RGB32, depth=28, widen=10)) == 36_479_194
    assert count(WideResNet(100, RGB32, depth=28, widen=10)) == 36_536_884
    assert round(count(WideResNet(100, RGB32, depth=16, widen=4)) / 1e6, 2) == 2.77


@pytest.mark.parametrize(("alpha", "ten", "hundred"), [(48, 1_772_706, 1_778_556), (84, 3_904_446, 3_913_536),
                                                       (270, 28_485_477, 28_511_307)])  # fmt: skip
def test_pyramidnet_counts(alpha, ten, hundred):
    """The paper rounds to 1.7, 3.8 and 28.3 M (table 4); the exact numbers are those osmr/imgclsmob asserts."""
    assert count(PyramidNet(10, RGB32, depth=110, alpha=alpha)) == ten
    assert count(PyramidNet(100, RGB32, depth=110, alpha=alpha)) == hundred


@pytest.mark.parametrize(("width", "heads", "published"), [(192, 3, 5_717_416), (384, 6, 22_050_664)])
def test_vit_counts(width, heads, published):
    """DeiT prints 5.7 and 22 M for 224 pixels, patch 16, 1000 classes; the exact numbers are timm's."""
    model = ViT(1000, {"channels": 3, "size": 224}, patch=16, width=width, depth=12, heads=heads)
    assert count(model) == published


SMALL = [
    lambda inputs: resnet(7, "basic", [1, 1, 1, 1], 8),
    lambda inputs: resnet(7, "bottleneck", [1, 1, 1, 1], 8),
    lambda inputs: WideResNet(7, inputs, depth=10, widen=1, dropout=0.3),
    lambda inputs: PyramidNet(7, inputs, depth=20, alpha=12),
    lambda inputs: ViT(7, inputs, patch=4, width=24, depth=2, heads=3, dropout=0.1),
    lambda inputs: FastNet(7, inputs, widths=[4, 8, 8]),
    lambda inputs: FastNet(7, inputs, widths=[4, 8, 8], stem_stride=2),
]


@pytest.mark.parametrize("make", SMALL)
def test_forward_and_gradient(make):
    torch.manual_seed(0)
    model = make(RGB32)
    output = model(SimpleNamespace(x=torch.randn(3, 3, 32, 32)))
    assert output.shape == (3, 7)
    nn.functional.cross_entropy(output, torch.tensor([0, 1, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("make", SMALL)
def test_channels_last_is_the_same_function(make):
    torch.manual_seed(0)
    model = make(RGB32).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = model(SimpleNamespace(x=x))
    model.to(memory_format=torch.channels_last)
    assert torch.allclose(model(SimpleNamespace(x=x)), expected, atol=1e-4)


def test_fastnet_on_eight_pixels():
    model = FastNet(10, {"channels": 1, "size": 8}, widths=[4, 8, 8, 8, 8])
    assert model(SimpleNamespace(x=torch.randn(2, 1, 8, 8))).shape == (2, 10)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match=r"6 k \+ 4"):
        WideResNet(10, RGB32, depth=18, widen=1)
    with pytest.raises(ValueError, match=r"6 k \+ 2"):
        PyramidNet(10, RGB32, depth=100, alpha=48)
    with pytest.raises(ValueError, match="must divide"):
        ViT(10, RGB32, patch=5, width=24, depth=1, heads=3)


@pytest.mark.gpu
def test_bf16_channels_last_on_a_gpu():
    model = resnet(10, "basic", [1, 1, 1, 1], 8).cuda().to(memory_format=torch.channels_last)
    x = torch.randn(4, 3, 32, 32, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        output = model(SimpleNamespace(x=x))
    output.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_batch_norm_that_does_not_count_is_torchs():
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(3), nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 5, 5)
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == 0
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    with pytest.raises(ValueError, match="expected 4D input"):
        ours.train()(x[0])
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(ours), nn.SyncBatchNorm)

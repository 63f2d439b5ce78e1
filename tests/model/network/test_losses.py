import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from model.network.losses import feature_mean_square, feature_norm, l1, l2, make_loss, ssim
from model.settings import TrainingSettings


@pytest.fixture
def frames(bikes: NDArray[np.uint8]) -> Tensor:
    """Two neighbouring frames' windows, float64 [2, 1, 3, 40, 52]."""
    windows = np.stack([bikes[i, 100:140, 200:252] for i in (0, 1)]) / 255
    return torch.from_numpy(windows).permute(0, 3, 1, 2)[:, None].contiguous()


@pytest.fixture
def features() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus()).double().requires_grad_(False)


def settings(**values: object) -> TrainingSettings:
    return TrainingSettings.model_validate(values)


def test_l1_is_the_mean_absolute_difference() -> None:
    assert l1(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0])) == 2


def test_l2_is_the_mean_squared_difference() -> None:
    assert l2(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 0.0])) == 5


def test_ssim_inside_equals_scikit_image(frames: Tensor) -> None:
    one, two = (frame[0].permute(1, 2, 0).numpy() for frame in frames)
    expected = structural_similarity(
        one,
        two,
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert float(ssim(frames[0], frames[1], "inside")) == pytest.approx(expected, abs=1e-12)


def test_ssim_zero_equals_its_formula_with_black_surroundings(frames: Tensor) -> None:
    def blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.gaussian_filter(image, 1.5, mode="constant", radius=5)

    values = []
    for x, y in zip(*(frame[0].numpy() for frame in frames), strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, c = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        numerator = (2 * mx * my + 1e-4) * (2 * c + 9e-4)
        values.append(numerator / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert float(ssim(frames[0], frames[1], "zero")) == pytest.approx(np.mean(values), abs=1e-12)


def test_ssim_of_equal_frames_is_one(frames: Tensor) -> None:
    for border in ("zero", "inside"):
        assert float(ssim(frames[0], frames[0], border)) == pytest.approx(1)


def test_ssim_inside_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match="smaller than the window"):
        ssim(torch.rand(1, 3, 10, 20), torch.rand(1, 3, 10, 20), "inside")


def test_feature_norm_is_not_averaged(frames: Tensor, features: nn.Module) -> None:
    one, two = frames
    twice = feature_norm(torch.cat([one, one]), torch.cat([two, two]), features)
    assert float(twice) == pytest.approx(2**0.5 * float(feature_norm(one, two, features)))


def test_feature_mean_square_does_not_depend_on_the_batch(
    frames: Tensor, features: nn.Module
) -> None:
    one, two = frames
    twice = feature_mean_square(torch.cat([one, one]), torch.cat([two, two]), features)
    assert float(twice) == pytest.approx(float(feature_mean_square(one, two, features)))


def test_feature_mean_square_sees_imagenet_normalised_frames(frames: Tensor) -> None:
    distance = feature_mean_square(frames[0], frames[1], lambda frame: frame)
    deviation = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    expected = ((frames[0] - frames[1]) / deviation).square().mean()
    assert float(distance) == pytest.approx(float(expected))


def test_combined_is_l1_and_the_weighted_features(frames: Tensor, features: nn.Module) -> None:
    combined = make_loss(settings(loss="combined", perceptual_weight=0.25), features)
    expected = l1(*frames) + 0.25 * feature_norm(frames[0], frames[1], features)
    assert float(combined(frames[0], frames[1])) == pytest.approx(float(expected))


def test_ssim_loss_falls_as_frames_grow_alike(frames: Tensor) -> None:
    loss = make_loss(settings(loss="ssim"))
    assert float(loss(frames[0], frames[0])) == pytest.approx(-1)
    assert float(loss(frames[0], frames[1])) > -1


@pytest.mark.parametrize("form", ["as_published", "usual"])
@pytest.mark.parametrize("name", ["l1", "l2", "ssim", "vgg", "combined"])
def test_gradient_agrees_with_finite_differences(
    name: str, form: str, frames: Tensor, features: nn.Module
) -> None:
    loss = make_loss(settings(loss=name, loss_form=form, perceptual_weight=0.1), features)
    target = frames[1, :, :, :12, :12]
    prediction = frames[0, :, :, :12, :12].clone().requires_grad_()
    torch.autograd.gradcheck(lambda p: loss(p, target), prediction, fast_mode=True)


@pytest.mark.parametrize("form", ["as_published", "usual"])
@pytest.mark.parametrize("name", ["l1", "ssim", "vgg"])
def test_gradient_of_equal_frames_is_finite(
    name: str, form: str, frames: Tensor, features: nn.Module
) -> None:
    prediction = frames[0].clone().requires_grad_()
    make_loss(settings(loss=name, loss_form=form), features)(prediction, frames[0]).backward()
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def test_perceptual_losses_need_features() -> None:
    with pytest.raises(ValueError, match="'vgg' needs features"):
        make_loss(settings(loss="vgg"))

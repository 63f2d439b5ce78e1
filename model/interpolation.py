"""Prediction under the names that others may import; see `model.video.interpolation`."""

from model.video.interpolation import interpolate as interpolate
from model.video.interpolation import load_predictor as load_predictor

"""`PROTOCOLS` under the name that others may import; see `model.evaluation.metrics`."""

from model.evaluation.metrics import PROTOCOLS as PROTOCOLS

"""`compute_flow` under the name that others may import; see `pipeline.flow.optical_flow`."""

from pipeline.flow.optical_flow import compute_flow as compute_flow

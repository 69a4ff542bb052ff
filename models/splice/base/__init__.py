"""The base splice-site model (SpliceAI-10k with OpenSpliceAI's weights) and the delta scores that the splice workloads learn from."""

from assay.models.splice.base.network import PUBLISHED_MODELS
from assay.models.splice.base.targets import TargetsReport, write_splice_targets

__all__ = ["PUBLISHED_MODELS", "TargetsReport", "write_splice_targets"]

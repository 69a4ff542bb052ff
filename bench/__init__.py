"""The instrument: runs cases, measures them, keeps their records and judges claims. It knows nothing of any one model."""

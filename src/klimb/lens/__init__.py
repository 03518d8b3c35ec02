"""Token-level views of rollouts: entropy, ratio, KL, advantage, kept or not, on one page."""

"""Mask heads: how a decoder step turns its hidden map into a mask. `interface` says what a head must provide."""

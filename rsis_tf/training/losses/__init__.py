"""The losses: what the predictions of a batch cost."""

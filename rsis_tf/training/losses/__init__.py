"""What the predictions of a batch cost."""

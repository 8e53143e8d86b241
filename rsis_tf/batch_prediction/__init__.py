"""What the command `python -m rsis_tf.cli.predict` is made of: finding pictures, reading videos, writing results."""

"""What the command `python -m rsis_tf.predict` is made of: finding pictures, reading videos, writing results."""

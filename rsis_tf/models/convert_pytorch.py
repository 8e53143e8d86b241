"""The name of `rsis_tf.models.pytorch.convert` in earlier versions."""

from rsis_tf.models.pytorch.convert import load_checkpoint, load_state_dicts, main

__all__ = ["load_checkpoint", "load_state_dicts", "main"]

if __name__ == "__main__":
    main()

"""The name of `rsis_tf.models.pytorch.convert` in earlier versions; the command is `rsis convert`."""

from rsis_tf.models.pytorch.convert import load_checkpoint, load_state_dicts

__all__ = ["load_checkpoint", "load_state_dicts"]

if __name__ == "__main__":
    from rsis_tf.cli.convert import main

    main()

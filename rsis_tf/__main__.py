"""`python -m rsis_tf` is the command `rsis`."""

from rsis_tf.cli.main import main

if __name__ == "__main__":
    main()

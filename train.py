"""`rsis train` under its first name."""

from rsis_tf.cli.train import main

if __name__ == "__main__":
    main()

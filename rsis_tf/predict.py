"""`python -m rsis_tf.predict`, the name of `rsis predict` in earlier versions."""

from rsis_tf.cli.predict import main

if __name__ == "__main__":
    main()

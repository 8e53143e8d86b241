"""`python evaluate.py` is `rsis evaluate`: scores a model on a dataset."""

from rsis_tf.cli.evaluate import main

if __name__ == "__main__":
    main()

"""`python -m rsis_tf.predict` of earlier versions: the command `rsis predict`."""

from rsis_tf.cli.predict import main

if __name__ == "__main__":
    main()

"""Runs the command `rsis` in this process."""

from rsis_tf.cli import main as command


def call(*argv, capsys):
    """Runs `rsis`; returns the exit code, standard output and standard error."""
    code = 0
    try:
        command.main(argv)
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()

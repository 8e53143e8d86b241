"""Claims run folders at the same time as another process: `python claim.py MODE START COUNT`.

In each of COUNT rounds, 50 ms apart from the time START on, it claims the folder `round-N` (MODE "named") or the next
free one (MODE "next"), writes a file into it, and prints the folder if the claim succeeded and "-" otherwise.
"""

import sys
import time

from rsis_tf.errors import InputError
from rsis_tf.run_folder import new_folder


def main(mode: str, start: str, count: str) -> None:
    for number in range(int(count)):
        moment = float(start) + 0.05 * number
        while time.time() < moment:
            pass
        try:
            with new_folder(f"round-{number}" if mode == "named" else None, "run") as folder:
                (folder / "file").write_text("mine")
            print(folder)
        except InputError:
            print("-")


main(*sys.argv[1:])

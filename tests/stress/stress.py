#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""stress.py NAME [SECONDS [SEED]] - one stress program under the library, books checked.

The seed is printed; the same seed makes the same choices (not the same interleaving).
Then every dump must parse and hold the identities, and no counter of a process may fall
from one dump to the next. Environment as for tests/run, TIDEPOOL_STRESS the folder of
the programs; STRESS_PLAIN=1 runs without the library.
"""

import collections
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "run"))
import tidepool  # noqa: E402 (the folder above is not a package)
from tidepool import require  # noqa: E402


def main():
    name = sys.argv[1]
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else time.time_ns() % 1000003
    plain = os.environ.get("STRESS_PLAIN") == "1"
    print(f"{name}: {seconds} s, seed {seed}", flush=True)
    with tidepool.Place() as place:
        path = os.path.join(tidepool.from_environment("TIDEPOOL_STRESS"), name)
        options = os.environ.get("STRESS_OPTIONS", "")
        done = tidepool.run([path, str(seconds), str(seed)],
                            place.environment(options, preload=not plain),
                            place.work, timeout=seconds + 120)
        print(done.stdout.decode().strip())
        require(done.status == 0 and not done.stderr,
                f"ended with {done.status}: {done.stderr.decode()[-800:]}")
        if plain:
            return
        rows = collections.defaultdict(list)
        for recording in tidepool.check_all(place.dumps()):
            rows[recording["process"]["pid"]].append(recording)
        for recordings in rows.values():
            tidepool.monotone(recordings)


if __name__ == "__main__":
    tidepool.main(main)

"""The REST API as clients load it: one worker, the real conductor and store behind it.

* Reads against two peers in the same run (``bench/api_reads.py``): a bare Falcon application on the same HTTP server
  that sends the same JSON, and a bare protocol that sends the same bytes (the floor). They are loaded in turns, and the
  median of the ratios counts; with ``wrk`` too, where it is installed.
* Reads while servers are created and deleted 50 times a second: kept answers cannot hide there.
* Changes against the disk (``bench/api_changes.py``): how long the same disk takes to sync one page, measured between
  the rounds. And on disks that take milliseconds for it (``bench/api_slow_disk.py``).
* An open loop for each mix of requests (``bench/mixes.py``): the knee, where p99 leaves its bound or less is answered
  than was asked, and latency from the intended time of sending at half of it.
* A real Nova, where one is named (``bench/nova_cloud.py``).

    python -m bench api
"""

from __future__ import annotations

from bench import nova_cloud, open_loop
from bench.api_changes import measure_bulk, measure_one_writer, measure_writers
from bench.api_reads import ROWS, Length, measure_all_changed, measure_changing, measure_lists, measure_reads
from bench.api_slow_disk import measure_slow_disks
from bench.cloud import running_cloud
from bench.mixes import MIXES, job, measure_mix, report_run

FULL, QUICK = Length(10.0, 5), Length(0.6, 2)
STEP_S = 4.0  # of a ramp
BULK, BULK_QUICK = 10_000, 1_000


def main(*, quick: bool = False) -> None:
    length = QUICK if quick else FULL
    with running_cloud() as (cloud, _):
        cloud.log_in()
        create = cloud.prepare()
        with_port = {"server": {**create["server"], "networks": [{"uuid": cloud.network()}]}}
        cloud.create(with_port, ROWS)
        cloud.wait_idle()
        measure_reads(cloud, length)
        measure_lists(cloud, length)
        if quick:  # that it runs, not what it finds
            report_run("open_loop_mixed_50", open_loop.run(job(cloud, create, "mixed", 50, 2.0)))
            cloud.wait_idle()
        else:
            measure_changing(cloud, create, length)
            measure_all_changed(cloud, length)
            for mix in MIXES:
                measure_mix(cloud, create, mix, STEP_S)
        measure_one_writer(cloud, create, length)
        measure_writers(cloud, create, length)
        measure_bulk(cloud, create, BULK_QUICK if quick else BULK)
        nova_cloud.measure(cloud, create, length)
    measure_slow_disks(length, quick=quick)


if __name__ == "__main__":
    main()

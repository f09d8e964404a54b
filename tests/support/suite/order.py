"""In which order the tests run: what takes long first, and at the same time.

Side by side, each worker gets an equal stretch of the list, and takes from the end of another's when it has done its
own. So each stretch begins with its share of the long files, and ends with short tests. A file stays in one stretch:
its servers are started once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

SECONDS: Mapping[str, float] = MappingProxyType(
    {
        "tests/docker/test_compose_headline.py": 250,
        "tests/faults/test_contract.py": 220,
        "tests/docker/test_compose_stack.py": 180,
        "tests/e2e/test_suite.py": 180,
        "tests/e2e/test_own_system.py": 170,
        "tests/docker/test_compose_contract.py": 160,
        "tests/e2e/test_versus.py": 160,
        "tests/foreign/test_meter.py": 160,
        "tests/e2e/test_game_day_console.py": 150,
        "tests/e2e/test_headline.py": 140,
        "tests/e2e/test_game_day.py": 130,
        "tests/foreign/test_catalog.py": 130,
        "tests/foreign/test_mailer.py": 130,
        "tests/foreign/test_shop.py": 130,
        "tests/faults/test_block.py": 120,
        "tests/e2e/test_life_killed.py": 105,
        "tests/load/test_lean_client.py": 105,
        "tests/docker/test_compose_file.py": 100,
        "tests/api/test_api_defects.py": 100,
        "tests/e2e/test_life_terminal.py": 95,
        "tests/docker/test_own_compose.py": 90,
        "tests/dependencies/test_kafka_secure.py": 90,
        "tests/e2e/test_afterload.py": 80,
        "tests/e2e/test_life_files.py": 80,
        "tests/e2e/test_truth.py": 80,
        "tests/load/test_processes.py": 80,
        "tests/dependencies/test_rabbitmq.py": 80,
        "tests/conductor/test_counters.py": 75,
        "tests/load/test_remote_workers.py": 75,
        "tests/report/test_html.py": 75,
        "tests/test_api.py": 75,
        "tests/e2e/test_tunnel.py": 75,
        "tests/load/test_foreign_files.py": 70,
        "tests/load/test_open_model.py": 70,
        "tests/e2e/test_game_day_kills.py": 70,
        "tests/docker/test_life_killed_containers.py": 60,
        "tests/e2e/test_ends.py": 60,
        "tests/e2e/test_game_day_mended.py": 60,
        "tests/e2e/test_life_load.py": 60,
        "tests/e2e/test_timeline.py": 60,
        "tests/e2e/test_with_alerts.py": 60,
        "tests/dependencies/test_mysql_faults.py": 60,
        "tests/e2e/test_life_phases.py": 55,
        "tests/cli/test_experiment.py": 55,
        "tests/e2e/test_control_race.py": 55,
        "tests/docker/test_life_engine.py": 50,
        "tests/e2e/test_remote_worker.py": 50,
        "tests/e2e/test_control_bypass.py": 50,
        "tests/dependencies/test_kafka_cluster.py": 50,
        "tests/console/test_accessible.py": 40,
        "tests/faults/test_front.py": 40,
        "tests/load/test_lean_limits.py": 40,
        "tests/load/test_saturation.py": 40,
        "tests/e2e/test_control_changes.py": 40,
        "tests/e2e/test_silent_load.py": 35,
        "tests/load/test_closed_loop_hang.py": 35,
        "tests/e2e/test_detection.py": 35,
        "tests/load/test_silence.py": 35,
        "tests/cli/test_bad_input.py": 30,
        "tests/console/test_listeners.py": 30,
        "tests/conductor/test_proofs.py": 30,
        "tests/e2e/test_control_bug.py": 30,
        "tests/e2e/test_starved.py": 30,
        "tests/load/test_closed_model.py": 30,
        "tests/load/test_strangers.py": 30,
        "tests/safety/test_deaths.py": 30,
        "tests/stack/test_cli_stack.py": 30,
        "tests/cli/test_foreign_input.py": 25,
        "tests/e2e/test_init_openapi.py": 25,
        "tests/conductor/test_outside.py": 25,
        "tests/faults/test_hog.py": 25,
        "tests/safety/test_heal.py": 25,
        "tests/stack/test_embedded.py": 25,
        "tests/test_troubleshooting.py": 25,
        "tests/api/test_api_faults.py": 20,
        "tests/e2e/test_own_broken.py": 20,
        "tests/faults/test_control_planes.py": 20,
        "tests/load/test_locust.py": 20,
        "tests/load/test_read_back.py": 20,
        "tests/safety/test_unknown_toxics.py": 20,
        "tests/api/test_api_endpoints.py": 15,
        "tests/e2e/test_control_toxiproxy.py": 15,
        "tests/e2e/test_life_clock.py": 15,
        "tests/faults/test_bulk.py": 10,
        "tests/stack/test_setup.py": 10,
        "tests/testing/test_kinds.py": 10,
        "tests/adapters/test_probe.py": 5,
        "tests/api/test_api_pool.py": 5,
        "tests/stack/test_external_declared.py": 5,
        "tests/stack/test_servers.py": 5,
    }
)
"""About how long the files with the longest tests take, all tests of one after the other, on two idle cores; of a file
in SINGLY its longest test."""

TOGETHER: tuple[tuple[str, ...], ...] = (
    ("tests/e2e/test_life_terminal.py", "tests/e2e/test_life_load.py", "tests/e2e/test_ends.py"),
    (
        *("tests/e2e/test_life_killed.py", "tests/e2e/test_timeline.py", "tests/e2e/test_control_bypass.py"),
        *("tests/e2e/test_control_changes.py", "tests/e2e/test_control_toxiproxy.py"),
    ),
    (
        *("tests/e2e/test_life_files.py", "tests/e2e/test_life_phases.py", "tests/e2e/test_control_bug.py"),
        "tests/e2e/test_life_clock.py",
    ),
    (
        *("tests/faults/test_contract.py", "tests/faults/test_bulk.py", "tests/testing/test_kinds.py"),
        *("tests/adapters/test_probe.py", "tests/stack/test_servers.py", "tests/stack/test_setup.py"),
        "tests/stack/test_external_declared.py",
    ),
    (
        *("tests/api/test_api_defects.py", "tests/api/test_api_faults.py", "tests/api/test_api_endpoints.py"),
        *("tests/api/test_api_pool.py", "tests/conductor/test_proofs.py", "tests/conductor/test_counters.py"),
    ),
    ("tests/dependencies/test_rabbitmq.py", "tests/faults/test_block.py"),
)
"""Files whose tests use the same standing stack, or the session's Kafka or RabbitMQ: one worker has them, for each that
had some would start its own, and a Kafka that nobody asks costs a hundredth of a processor all the same."""


WHOLE_RUNS = ("test_a_stack_that_stays_up", "test_a_run_of_its_own", "test_two_stacks")
"""Tests of tests/docker/test_compose_stack.py with whole experiments, by the beginning of their names."""

SINGLY = frozenset(("tests/docker/test_own_compose.py", "tests/docker/test_life_engine.py"))
"""Files on a Docker engine each of whose tests starts servers of its own: dealt test by test."""


def longest_first(tests: Sequence[str], workers: int) -> list[int]:
    """Places of the tests (node ids) in the order in which they are to run by so many workers.

    Each worker is first given the same number of tests (xdist's worksteal; what is left over goes to the last), which
    is why short tests of one file may be dealt to two stretches.
    """
    files: dict[str, list[int]] = {}
    for place, test in enumerate(tests):
        files.setdefault(test.partition("::")[0], []).append(place)
    alone = SECONDS.keys() - {file for bundle in TOGETHER for file in bundle}
    bundles = [[file for file in bundle if file in files] for bundle in (*TOGETHER, *((file,) for file in alone))]
    lasting = [(sum(SECONDS[file] for file in bundle), bundle) for bundle in bundles if bundle]
    # A bundle stays in one piece: what its tests share is taken down after the last of them.
    dealt: list[list[str]] = [[] for _ in range(workers)]
    work = [0.0] * workers
    for seconds, bundle in sorted(lasting, key=lambda one: (-one[0], one[1])):
        least = work.index(min(work))
        dealt[least] += sorted(bundle, key=lambda file: (-SECONDS[file], file))
        work[least] += seconds
    stretches = [[place for file in some for place in files.pop(file)] for some in dealt]
    short = [place for places in files.values() for place in places]
    ordered: list[int] = []
    for number, stretch in enumerate(stretches):
        share = (len(tests) - len(ordered)) // (workers - number)
        room = max(0, share - len(stretch))
        ordered += stretch + short[:room]
        short = short[room:]
    return ordered + short


def group(test: str) -> str:
    """What a worker is given at once, of a test (node id): with a Docker engine a whole file, whose servers are then
    started once, but for SINGLY, and the file whose tests each have a whole stack in two parts: WHOLE_RUNS, and what
    ends before a run does. Two stacks of containers for whole experiments are too much for two cores, and are in one
    file. Any other test is given alone.

    By the id, for xdist's own groups (`xdist_group`) do nothing beside pytest 9.2, where an id cannot be changed.
    """
    file, _, name = test.partition("::")
    if file in SINGLY or not file.startswith("tests/docker/"):
        return test
    return f"{file} {name.startswith(WHOLE_RUNS)}" if file.endswith("/test_compose_stack.py") else file


def longest_files_first(tests: Sequence[str]) -> list[int]:
    """Places of the tests (node ids), for workers that are each given the next whole file."""
    return sorted(range(len(tests)), key=lambda place: -SECONDS.get(tests[place].partition("::")[0], 0.0))

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
        "tests/docker/test_compose_headline.py": 300,
        "tests/e2e/test_headline.py": 250,
        "tests/e2e/test_life_killed.py": 230,
        "tests/docker/test_compose_stack.py": 210,
        "tests/e2e/test_life_terminal.py": 190,
        "tests/e2e/test_suite.py": 150,
        "tests/docker/test_compose_contract.py": 160,
        "tests/e2e/test_life_phases.py": 140,
        "tests/docker/test_own_compose.py": 110,
        "tests/e2e/test_ends.py": 110,
        "tests/docker/test_compose_file.py": 100,
        "tests/e2e/test_truth.py": 100,
        "tests/faults/test_contract.py": 100,
        "tests/e2e/test_life_load.py": 100,
        "tests/load/test_remote_workers.py": 90,
        "tests/load/test_open_model.py": 90,
        "tests/e2e/test_starved.py": 75,
        "tests/e2e/test_timeline.py": 75,
        "tests/e2e/test_remote_worker.py": 70,
        "tests/e2e/test_life_files.py": 70,
        "tests/e2e/test_own_system.py": 65,
        "tests/docker/test_life_killed_containers.py": 60,
        "tests/e2e/test_control_race.py": 55,
        "tests/load/test_clocks.py": 55,
        "tests/load/test_processes.py": 55,
        "tests/docker/test_life_engine.py": 50,
        "tests/load/test_closed_loop_hang.py": 50,
        "tests/load/test_saturation.py": 50,
        "tests/e2e/test_control_bypass.py": 50,
        "tests/load/test_closed_model.py": 50,
        "tests/report/test_html.py": 30,
        "tests/api/test_api_defects.py": 30,
        "tests/cli/test_settings.py": 30,
        "tests/cli/test_experiment.py": 30,
        "tests/e2e/test_control_toxiproxy.py": 25,
        "tests/e2e/test_control_changes.py": 25,
        "tests/safety/test_remote_lock.py": 20,
        "tests/stack/test_cli_stack.py": 20,
        "tests/e2e/test_control_bug.py": 15,
        "tests/e2e/test_life_clock.py": 15,
        "tests/stack/test_embedded.py": 15,
        "tests/safety/test_deaths.py": 15,
        "tests/faults/test_hog.py": 15,
    }
)
"""About how long the files with the longest tests take, all tests of one after the other, on two idle cores; of a file
in SINGLY its longest test."""


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
    stretches: list[list[int]] = [[] for _ in range(workers)]
    work = [0.0] * workers
    for file in sorted(SECONDS.keys() & files.keys(), key=lambda file: (-SECONDS[file], file)):
        least = work.index(min(work))
        stretches[least] += files.pop(file)
        work[least] += SECONDS[file]
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
    started once, but for SINGLY, and the file whose tests each have a whole stack in two parts: those of its start, and
    all others. Two stacks of containers for whole experiments are too much for two cores, and are in one file.
    Any other test is given alone.

    By the id, for xdist's own groups (`xdist_group`) do nothing beside pytest 9.2, where an id cannot be changed.
    """
    file, _, name = test.partition("::")
    if file in SINGLY or not file.startswith("tests/docker/"):
        return test
    return f"{file} {'start' in name}" if file.endswith("/test_compose_stack.py") else file


def longest_files_first(tests: Sequence[str]) -> list[int]:
    """Places of the tests (node ids), for workers that are each given the next whole file."""
    return sorted(range(len(tests)), key=lambda place: -SECONDS.get(tests[place].partition("::")[0], 0.0))

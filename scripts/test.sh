#!/usr/bin/env bash
# Runs the tests by lane. Usage: scripts/test.sh LANE... [-- PYTEST-ARGUMENT...]
#   unit        tests/unit, on two processes
#   parallel    tests/unit and tests/conformance, on two processes
#   servers     everything else in tests/, on two processes too but for one file: these start servers and break them
#   long        everything marked `long`, one at a time
# Lanes run in the order given; the first that fails ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."

# The same run twice gives the same result: hash order fixed, no random order should a plugin bring one
# along, and Hypothesis's "ci" profile (derandomised, no deadline). Times are in UTC, plots need no display.
# The long lane alone looks for new examples.
export PYTHONHASHSEED=0 TZ=UTC MPLBACKEND=Agg
repeatable=(-p no:randomly --hypothesis-profile=ci)

lanes=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
    lanes+=("$1")
    shift
done
[ $# -eq 0 ] || shift
extra=("$@")

ran=0
run_lane() {
    local status=0
    .venv/bin/python -m pytest "$@" "${extra[@]}" || status=$?
    # 5: no test was selected. That is no failure of a lane, but it is one of the whole run (below).
    case $status in
        0) ran=1 ;;
        5) ;;
        *) exit "$status" ;;
    esac
}

# A lane whose folders hold no test yet is left out, so that the output ends on a summary that counted some.
has_tests() {
    [ -n "$(find "$@" -name 'test_*.py' -print -quit 2>/dev/null)" ]
}

for lane in "${lanes[@]}"; do
    folders=()
    case $lane in
        unit) wanted=(tests/unit) ;;
        parallel) wanted=(tests/unit tests/conformance) ;;
        # The longest first, so that at the end no process waits for the other.
        servers) wanted=(tests/failure tests/e2e) ;;
        long) wanted=(tests) ;;
        *)
            echo "test: no lane is called '$lane'." >&2
            exit 2
            ;;
    esac
    for folder in "${wanted[@]}"; do
        if has_tests "$folder"; then folders+=("$folder"); fi
    done
    [ ${#folders[@]} -gt 0 ] || continue
    case $lane in
        unit | parallel) run_lane "${repeatable[@]}" --numprocesses 2 --dist loadfile "${folders[@]}" ;;
        servers)
            # Schemathesis gives all cases of a test one id, by which two processes cannot share them.
            cases=tests/e2e/test_openapi.py
            run_lane "${repeatable[@]}" --numprocesses 2 --dist loadfile --no-loadscope-reorder \
                --ignore "$cases" "${folders[@]}"
            run_lane "${repeatable[@]}" "$cases"
            ;;
        long) run_lane -p no:randomly -m long tests ;;
    esac
done

if [ "$ran" -eq 0 ]; then
    echo "test: no test ran." >&2
    exit 5
fi

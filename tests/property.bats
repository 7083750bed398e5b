#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Random sequences of I/O, snapshots, merges, grows and remounts against a model (property.c). PROPERTY_OPS=N makes
# longer ones, PROPERTY_SEED=N others; what failed is repeated by its seed.

load helpers

PROPERTY=$TOP/build/tests/property
PLOOP=$TOP/userspace/ploop
OPS=${PROPERTY_OPS:-170}
SEED=${PROPERTY_SEED:-1}

setup_file() { host_up 4g; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

# sequence VARIANT: the last lines of the log are what a failure is about.
sequence()
{
	local log=$BATS_TEST_TMPDIR/log

	"$PROPERTY" "$PLOOP" "$T" "$1" "$SEED" "$OPS" >"$log" 2>&1 3>&- || {
		tail -n 60 "$log"
		fail "PROPERTY_SEED=$SEED PROPERTY_OPS=$OPS: $(grep -a '^property:' "$log" | tail -n 1)"
	}
	# That it did what it is here for.
	for operation in snapshot merge "merge offline" grow "grow offline" remount discard zero; do
		grep -qE "^[0-9]+ $operation " "$log" || grep -qE "^[0-9]+ $operation\$" "$log" ||
			fail "no $operation in the whole sequence"
	done
}

@test "a random sequence equals the model: version 2" { sequence v2; }

@test "a random sequence equals the model: version 1" { sequence v1; }

@test "a random sequence equals the model: raw base" { sequence raw; }

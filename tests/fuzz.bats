#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Hostile input for the kernel: ioctls in any order from several threads (fuzzctl), damaged images (fuzzopen). What
# failed is repeated by its seed: FUZZ_SEED=N. FUZZ_SECONDS=N is how long each of the two fuzzers runs, in two parts; the
# long form is 900. FUZZ_THREADS=N.

load helpers

SEED=${FUZZ_SEED:-1}
SECONDS_EACH=${FUZZ_SECONDS:-120}
THREADS=${FUZZ_THREADS:-4}

setup_file() { host_up 2g; }
teardown_file() { host_down; }

setup()
{
	begin
	mkdir "$T/fuzz"
	# udev would look at each of the thousands of devices.
	udevadm control --stop-exec-queue
}

teardown()
{
	udevadm control --start-exec-queue
	finish
}

# fuzz PROGRAM ARG...: prints what it did; what it says last is what a failure is about.
fuzz()
{
	local log=$BATS_TEST_TMPDIR/log

	"$TOP/build/tests/$1" "$T/fuzz" "${@:2}" >"$log" 2>&1 3>&- || {
		cat "$log"
		fail "$*"
	}
	sed 's/^/# /' "$log" >&3
	LOG=$log
}

# did COMMAND...: each succeeded at least once, else the fuzzer is not worth its time.
did()
{
	local name

	for name; do
		grep -qE "^$name made [0-9]+ succeeded [1-9]" "$LOG" || fail "$name never succeeded" || return 1
	done
}

@test "ioctls in any order, one thread" {
	fuzz fuzzctl "$SEED" "$((SECONDS_EACH / 4))" 1
	did ADD_DELTA START STOP CLEAR SNAPSHOT MERGE GROW BALLOON FREEBLKS REPLACE_DELTA
}

# calls_of FILE
calls_of()
{
	rm -r "$T/fuzz"
	mkdir "$T/fuzz"
	fuzz fuzzctl "$SEED" 300 1 calls=300 log="$1"
}

# On a busy machine the watch may signal a call that is only slow: then it takes another run to see two that are the same.
@test "one thread: a seed repeats the sequence" {
	local i calls=$BATS_TEST_TMPDIR/calls

	calls_of "$calls.0"
	for i in 1 2 3; do
		calls_of "$calls.$i"
		! cmp -s "$calls.$((i - 1))" "$calls.$i" || return 0
	done
	diff "$calls.2" "$calls.3"
}

@test "ioctls in any order, several threads" {
	fuzz fuzzctl "$((SEED + 1))" "$((SECONDS_EACH * 3 / 4))" "$THREADS"
	did ADD_DELTA START STOP CLEAR SNAPSHOT MERGE GROW BALLOON FREEBLKS RELOCBLKS DEL_DELTA REPLACE_DELTA UPDATE_INDEX \
		TRACK_INIT TRACK_READ FREEZE DISCARD_INIT FBFILTER
}

@test "damaged images: on ext4" {
	fuzz fuzzopen "$SEED" "$((SECONDS_EACH * 3 / 4))"
}

@test "damaged images: on tmpfs" {
	mount -t tmpfs -o size=400m tmpfs "$T/fuzz"
	truncate -s 1m "$T/fuzz/probe"
	dd if="$T/fuzz/probe" of=/dev/null bs=4k count=1 iflag=direct status=none 2>/dev/null ||
		skip "tmpfs of $(uname -r) has no direct I/O"
	fuzz fuzzopen "$((SEED + 1))" "$((SECONDS_EACH / 4))"
}

#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Memory and disk fail inside each ioctl, at every place in turn (the fail-nth file of proc): the call fails cleanly or
# succeeds, the data are right, and the same call made again succeeds. Needs a kernel with fault injection.

load helpers

PLOOP=$TOP/userspace/ploop
DEBUGFS=/sys/kernel/debug
# More places than any call has.
MOST=${FAIL_MOST:-400}
# The short form tries the first places, and of the later ones fewer and fewer, for some seconds for each call.
# FAIL_ALL=1 tries each place however long that takes.
SPREAD=4
SECONDS_EACH=${FAIL_SECONDS:-12}
if [[ ${FAIL_ALL:-} ]]; then
	SPREAD=$((MOST + 1))
	SECONDS_EACH=100000
fi

# Not skipped: who asks for this suite on a stock kernel hears that it tests nothing there.
setup_file()
{
	[[ -d $DEBUGFS/failslab && -e /proc/self/fail-nth ]] ||
		fail "$(uname -r) has no fault injection: tests/vm/run -k debug tests/failslab.bats" || return 1
	host_up 1g
}

teardown_file() { [[ ! ${MAIN_DISK:-} ]] || host_down; }

setup()
{
	begin
	faults_on
	clusters 6
}

teardown()
{
	[[ ! -d $DEBUGFS/failslab ]] || faults_off
	finish
}

# Allocations that may sleep fail too; nothing is printed, since a trace is what finish looks for.
faults_on()
{
	local attr

	for attr in failslab fail_page_alloc fail_make_request; do
		[[ -d $DEBUGFS/$attr ]] || continue
		echo 0 >$DEBUGFS/$attr/verbose
		echo 0 >$DEBUGFS/$attr/probability
		[[ ! -e $DEBUGFS/$attr/ignore-gfp-wait ]] || echo N >$DEBUGFS/$attr/ignore-gfp-wait
	done
	[[ ! -e $DEBUGFS/fail_page_alloc/min-order ]] || echo 0 >$DEBUGFS/fail_page_alloc/min-order
}

faults_off()
{
	local attr

	for attr in failslab fail_page_alloc fail_make_request; do
		[[ ! -d $DEBUGFS/$attr ]] || echo 0 >$DEBUGFS/$attr/probability
	done
	[[ ! -e $(disk_switch) ]] || echo 0 >"$(disk_switch)"
}

# Bios to the host's disk count for the disk only when it says so.
disk_switch() { printf '/sys/block/%s/make-it-fail' "${MAIN_DISK#/dev/}"; }

# fails_everywhere BEFORE AFTER ARG...: the ioctl program with these arguments and its 1st, 2nd, ... place failing, until
# there are no more. BEFORE makes the state that the call needs and AFTER takes it back; AFTER's argument says whether
# the call succeeded. The last call, in which nothing fails, must succeed.
fails_everywhere()
{
	local before=$1 after=$2 n answer left tried=0 failed=0 end=$((SECONDS + SECONDS_EACH))

	shift 2
	for ((n = 1; n <= MOST && SECONDS < end; n += 1 + n / SPREAD)); do
		tried=$((tried + 1))
		"$before"
		answer=$(FAIL_NTH=$n FAIL_NTH_LEFT=$BATS_TEST_TMPDIR/left "$IOCTL" "${@//@/$DEV}" 2>&1) || true
		left=$(tr -d '\0' <"$BATS_TEST_TMPDIR/left")
		case $answer in
		E*) failed=$((failed + 1)) ;;
		esac
		"$after" "$answer" || fail "place $n of $*: after $answer" || return 1
		if ((left > 0)); then
			[[ $answer != E* ]] || fail "$*: $answer though nothing failed" || return 1
			echo "# $*: fewer than $n places, $((tried - 1)) tried, $failed made it fail" >&3
			return
		fi
	done
	echo "# $*: stopped before place $n, $tried tried, $failed made it fail" >&3
}

# --- states

nothing() { :; }

base()
{
	rm -f "$T/a" "$T/b"
	new_image "$T/a" 8m
	new_image "$T/b" 8m
}

empty_device()
{
	base
	new_device
}

added()
{
	base
	stack "$T/a"
}

running()
{
	base
	attach "$T/a"
	data write "$DEV" 0 512k 1
	expect OK "$DEV" sync
}

two_levels()
{
	running
	expect OK "$DEV" snapshot "$T/b" cl=6
	data write "$DEV" 256k 512k 2
}

ballooned()
{
	running
	"$IOCTL" "$DEV" balloon 1 0 >/dev/null
}

# The call again, if it did not succeed: from_here ANSWER ARG...
again()
{
	local answer=$1

	shift
	[[ $answer != E* ]] || "$IOCTL" "$@" >/dev/null || fail "not the second time either: $*"
}

# The data of "running", and a device that can be used.
right()
{
	is "$SYS/pstate/aborted" 0
	data verify "$DEV" 0 256k 1
	data write "$DEV" 2m 64k 3
	data verify "$DEV" 2m 64k 3
}

gone()
{
	detach
	"$PLOOP" check "$T/a" >/dev/null
}

# --- one ioctl after the other

added_then_gone()
{
	again "$1" "$DEV" add "$T/a" cl=6 && expect OK "$DEV" start && data write "$DEV" 0 64k 1 && gone
}

@test "ADD_DELTA" { fails_everywhere empty_device added_then_gone @ add "$T/a" cl=6; }

started_then_gone()
{
	again "$1" "$DEV" start && data write "$DEV" 0 256k 1 && right && gone
}

@test "START" { fails_everywhere added started_then_gone @ start; }

stopped_then_gone()
{
	again "$1" "$DEV" stop && expect OK "$DEV" clear && remove "${DEV#/dev/ploop}" && "$PLOOP" check "$T/a" >/dev/null
}

@test "STOP" { fails_everywhere running stopped_then_gone @ stop; }

synced_then_gone() { again "$1" "$DEV" sync && right && gone; }

@test "SYNC" { fails_everywhere running synced_then_gone @ sync; }

snapped_then_gone()
{
	again "$1" "$DEV" snapshot "$T/b" cl=6 && right && gone && "$PLOOP" check "$T/b" >/dev/null
}

@test "SNAPSHOT" { fails_everywhere running snapped_then_gone @ snapshot "$T/b" cl=6; }

merged_then_gone()
{
	again "$1" "$DEV" merge && data verify "$DEV" 256k 512k 2 && right && gone
}

@test "MERGE" { fails_everywhere two_levels merged_then_gone @ merge; }

grown_then_gone() { again "$1" "$DEV" grow 65536 cl=6 && right && gone; }

@test "GROW" { fails_everywhere running grown_then_gone @ grow 65536 cl=6; }

replaced_then_gone()
{
	again "$1" "$DEV" replace 0 "$T/copy" ro cl=6 && right && gone
}

with_copy()
{
	two_levels
	cp --sparse=always "$T/a" "$T/copy"
}

@test "REPLACE_DELTA" { fails_everywhere with_copy replaced_then_gone @ replace 0 "$T/copy" ro cl=6; }

balloon_then_gone() { again "$1" "$DEV" balloon 1 0 && right && gone; }

@test "BALLOON" { fails_everywhere running balloon_then_gone @ balloon 1 0; }

# Clusters 8 to 15 are given up.
freed_then_gone() { again "$1" "$DEV" freeblks 0 8:9:8 && right && gone; }

@test "FREEBLKS" { fails_everywhere ballooned freed_then_gone @ freeblks 0 8:9:8; }

tracked_then_gone()
{
	again "$1" "$DEV" raw "$((2 << 30 | 16 << 16 | 0x50 << 8 | 6))" && right && gone
}

@test "TRACK_INIT" {
	fails_everywhere running tracked_then_gone @ raw "$((2 << 30 | 16 << 16 | 0x50 << 8 | 6))"
}

collecting_then_gone() { again "$1" "$DEV" discard-init && right && gone; }

@test "DISCARD_INIT" { fails_everywhere running collecting_then_gone @ discard-init; }

got_then_gone()
{
	local n

	for n in /sys/block/ploop*; do
		[[ ! -d $n ]] || remove "${n#/sys/block/ploop}"
	done
}

@test "GET" { fails_everywhere nothing got_then_gone control get any; }

# --- I/O

# The host's disk fails bios of everybody, workers too, now and then: an error or the right data, ABORT or not.
@test "I/O while the host's disk fails bios" {
	local round

	[[ -d $DEBUGFS/fail_make_request && -e $(disk_switch) ]] || skip "no fail_make_request"
	for round in 1 2 3 4 5 6; do
		running
		echo 3 >$DEBUGFS/fail_make_request/probability
		echo 40 >$DEBUGFS/fail_make_request/times
		echo 1 >"$(disk_switch)"
		data write "$DEV" 1m 2m $round || true
		"$IOCTL" "$DEV" sync || true
		data write "$DEV" 4m 2m $round || true
		echo 0 >"$(disk_switch)"
		echo 0 >$DEBUGFS/fail_make_request/probability
		data verify "$DEV" 0 512k 1
		stop
		expect OK "$DEV" clear
		remove "${DEV#/dev/ploop}"
		"$PLOOP" check "$T/a" || "$PLOOP" check --repair "$T/a"
		attach "$T/a"
		data verify "$DEV" 0 512k 1
		detach
	done
}

# Allocations that cannot wait fail for everybody: those of I/O have reserves.
@test "I/O while memory that cannot wait fails" {
	running
	echo Y >$DEBUGFS/failslab/ignore-gfp-wait
	echo 10 >$DEBUGFS/failslab/probability
	echo 2000 >$DEBUGFS/failslab/times
	data write "$DEV" 1m 4m 2
	data verify "$DEV" 1m 4m 2
	echo 0 >$DEBUGFS/failslab/probability
	right
	gone
}

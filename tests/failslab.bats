#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Memory fails inside each ioctl, at one place after the other (failnth): the call fails cleanly or succeeds, the data are
# right, and the same call made again succeeds. Bios and memory fail under I/O. Needs a kernel with fault injection.

load helpers

PLOOP=$TOP/userspace/ploop
DEBUGFS=/sys/kernel/debug
# For each call; FAIL_ALL=1 tries every place within that time, not fewer and fewer of the later ones.
SECONDS_EACH=${FAIL_SECONDS:-5}

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
	faults_off
	end_helpers
	drop_devices
	! mountpoint -q "$T/host" || umount "$T/host"
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
}

# Bios to a disk count only when it says so.
disk_switch() { printf '/sys/block/%s/make-it-fail' "${DISK#/dev/}"; }

@test "each ioctl while memory fails in it" {
	local log=$BATS_TEST_TMPDIR/log name

	mkdir "$T/nth"
	"$TOP/build/tests/failnth" "$T/nth" "$SECONDS_EACH" ${FAIL_ALL:+all=1} >"$log" 2>&1 3>&- || {
		cat "$log"
		fail "failnth"
	}
	sed 's/^/# /' "$log" >&3
	# Else nothing was injected.
	for name in ADD_DELTA START SNAPSHOT MERGE GROW REPLACE_DELTA FREEBLKS GET; do
		grep -qE "^$name: .* [1-9][0-9]* made it fail" "$log" || fail "$name never failed" || return 1
	done
}

# --- I/O

# The host's disk fails bios of everybody, workers too, now and then: an error or the right data, ABORT or not.
@test "I/O while the host's disk fails bios" {
	local round

	# The host's own metadata must not stop it.
	DISK=$(scratch_disk failing 256m)
	mkfs.ext4 -q -F -O ^has_journal -e continue "$DISK"
	mkdir "$T/host"
	mount "$DISK" "$T/host"
	for round in 1 2 3; do
		rm -f "$T/host/a"
		new_image "$T/host/a" 8m
		attach "$T/host/a"
		data write "$DEV" 0 512k 1
		expect OK "$DEV" sync
		echo 3 >$DEBUGFS/fail_make_request/probability
		echo 40 >$DEBUGFS/fail_make_request/times
		echo 1 >"$(disk_switch)"
		data write "$DEV" 1m 2m $round || true
		"$IOCTL" "$DEV" sync || true
		data write "$DEV" 4m 2m $round || true
		echo 0 >"$(disk_switch)"
		echo 0 >$DEBUGFS/fail_make_request/probability
		data verify "$DEV" 0 512k 1
		stops "$DEV"
		expect OK "$DEV" clear
		remove "${DEV#/dev/ploop}"
		"$PLOOP" check "$T/host/a" || "$PLOOP" check --repair "$T/host/a"
		attach "$T/host/a"
		data verify "$DEV" 0 512k 1
		detach
	done
	umount "$T/host"
	losetup -d "$DISK"
}

# Allocations that cannot wait fail for everybody: those of I/O have reserves.
@test "I/O while memory that cannot wait fails" {
	new_image "$T/a" 8m
	attach "$T/a"
	echo Y >$DEBUGFS/failslab/ignore-gfp-wait
	echo 10 >$DEBUGFS/failslab/probability
	echo 2000 >$DEBUGFS/failslab/times
	data write "$DEV" 1m 4m 2
	data verify "$DEV" 1m 4m 2
	echo 0 >$DEBUGFS/failslab/probability
	is "$SYS/pstate/aborted" 0
	detach
	"$PLOOP" check "$T/a"
}

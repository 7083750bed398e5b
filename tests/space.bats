#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The host's file system is full: writers wait, readers do not, and nothing is lost when space comes back.

load helpers

setup_file() { host_up 1g; }
teardown_file() { host_down; }

setup()
{
	begin
	SMALL=$(scratch_disk "small$BATS_TEST_NUMBER" 64m)
	make_fs ext4 "$SMALL" "$T/small"
	new_image "$T/small/a" 128m
	attach "$T/small/a"
	data write "$DEV" 0 2m 1
	expect OK "$DEV" sync
	# All but some 8 MiB.
	fallocate -l $(($(stat -f -c '%a * %S' "$T/small") - 8 * 1048576)) "$T/small/ballast"
}

teardown()
{
	rm -f "$T/small/ballast"
	end_helpers
	drop_devices
	umount "$T/small"
	losetup -d "$SMALL"
	finish
}

ended() { ! kill -0 "$1" 2>/dev/null; }

# More than fits, in the background; comes back when the driver says that writers wait.
fill_host()
{
	udevadm monitor --kernel --property --subsystem-match=block >"$T/uevents" 2>&1 3>&- &
	HELPERS+=($!)
	wait_for 10 grep -q KERNEL "$T/uevents"
	# Sleeps until there is an event.
	cat "$SYS/pstate/event" >"$T/event" 3>&- &
	HELPERS+=($!)
	data write "$DEV" 10m 32m 2 >"$T/writer" 2>&1 3>&- &
	WRITER=$!
	wait_for 60 grep -qx 3 "$T/event"
}

@test "a writer waits for space, reads go on, the writer ends with the right data" {
	local parked

	fill_host
	wait_for 20 grep -q PLOOP_EVENT=ENOSPC "$T/uevents"
	kernel_log | grep -q "ploop0.*full"
	(($(state_of active_reqs) > 0))
	fails ended "$WRITER"
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 60m 1m 0
	# In place too.
	data write "$DEV" 0 1m 3
	data verify "$DEV" 0 1m 3
	# A device with a waiting writer cannot be stopped, and says so soon.
	expect EBUSY "$DEV" stop
	# It tries again, and goes on waiting.
	parked=$(stat_of bio_parked)
	wait_for 20 test "$(stat_of bio_parked)" -ge "$parked"
	fails ended "$WRITER"
	rm "$T/small/ballast"
	wait_for 60 ended "$WRITER"
	wait "$WRITER"
	data verify "$DEV" 10m 32m 2
	data verify "$DEV" 0 1m 3
	data verify "$DEV" 1m 1m 1
	is "$SYS/pstate/aborted" 0
	detach
	attach "$T/small/a"
	data verify "$DEV" 10m 32m 2
	data verify "$DEV" 0 1m 3
}

@test "ABORT ends the wait with an error, reads go on" {
	fill_host
	fails ended "$WRITER"
	echo 1 >"$SYS/pstate/aborted"
	wait_for 30 ended "$WRITER"
	fails wait "$WRITER"
	grep -q 'Input/output error' "$T/writer"
	data verify "$DEV" 0 2m 1
	fails data write "$DEV" 0 4k 9
	data verify "$DEV" 0 2m 1
	stop || true
	in_use "$T/small/a"
}

@test "quota: EDQUOT waits like a full host" {
	local uid=12345

	command -v xfs_quota >/dev/null || skip "no xfs_quota"
	has_fs xfs || skip "this kernel has no xfs"
	detach
	rm "$T/small/ballast" "$T/small/a"
	mkdir "$T/xfs"
	truncate -s 400m "$BATS_FILE_TMPDIR/xfs.disk"
	mkfs.xfs -q "$BATS_FILE_TMPDIR/xfs.disk"
	mount -o loop,prjquota "$BATS_FILE_TMPDIR/xfs.disk" "$T/xfs" || skip "this xfs has no quota"
	mkdir "$T/xfs/p"
	xfs_quota -x -c "project -s -p $T/xfs/p $uid" -c "limit -p bhard=12m $uid" "$T/xfs" >/dev/null
	new_image "$T/xfs/p/a" 128m
	attach "$T/xfs/p/a"
	fill_host
	fails ended "$WRITER"
	xfs_quota -x -c "limit -p bhard=200m $uid" "$T/xfs"
	wait_for 60 ended "$WRITER"
	wait "$WRITER"
	data verify "$DEV" 10m 32m 2
	detach
	umount "$T/xfs"
}

#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# MERGE: what it refuses, what it leaves in the files, under load; interrupted, aborted, out of space, cut off by a crash.

load helpers
load stack

SNAPSHOT=0x40185004
GROW_NR=0x40185011

setup_file() { host_up 3g; }
teardown_file() { host_down; }
setup() { begin; }

teardown()
{
	thaw
	finish
}

# What the device shows becomes the reference.
remember() { dd if="$DEV" of="$T/reference" bs=1M iflag=direct status=none; }

# two_levels SIZE [VERSION]: base and top with clusters in one, in the other and in both, whole, in part, zeroed,
# discarded; the reference is what must be seen.
two_levels()
{
	local cluster=$((512 << CL))

	VERSION=${2:-2}
	new_image "$T/base" "$1" "$VERSION"
	attach "$T/base"
	data write "$DEV" 0 $((8 * cluster)) 1
	snapshot "$T/top"
	data write "$DEV" $((1 * cluster + 512)) 512 2
	data write "$DEV" $((2 * cluster)) $cluster 2
	blkdiscard -z -o $((3 * cluster)) -l $cluster "$DEV"
	blkdiscard -z -o $((4 * cluster + 4096)) -l 4096 "$DEV"
	blkdiscard -o $((5 * cluster)) -l $cluster "$DEV"
	data write "$DEV" $((20 * cluster - 4096)) 8192 2
	data write "$DEV" $((30 * cluster)) $cluster 2
	blkdiscard -o $((30 * cluster)) -l $cluster "$DEV"
	data verify "$DEV" 0 $((cluster + 512)) 1
	data verify "$DEV" $((3 * cluster)) $cluster 0
	remember
}

# merged TOP BASE: TOP is nobody's, closed and empty, BASE alone is the stack, and has it all.
merged()
{
	maintains off
	levels_are "$2"
	is "$SYS/pdelta/0/ro" 0
	is "$SYS/pdelta/0/transparent" 0
	unlocked "$1"
	fails in_use "$1"
	in_use "$2"
	# No entry is left that points to anything.
	cmp -s <(tail -c +65 "$1" | head -c 4096) <(head -c 4096 /dev/zero) || fail "$1 is not empty"
	rm "$1"
	same_as_reference
	detach
	attach "$2"
	same_as_reference
	detach
	check_image "$2"
}

@test "MERGE: what it refuses" {
	local first

	new_image "$T/a" 16m
	new_image "$T/b" 16m
	new_image "$T/large" 32m
	new_device
	expect ENOENT "$DEV" merge
	expect OK "$DEV" add "$T/a"
	expect ENOENT "$DEV" merge
	expect OK "$DEV" start
	expect ENOENT "$DEV" merge
	detach
	stack "$T/a" "$T/b"
	expect EINVAL "$DEV" merge
	expect OK "$DEV" start
	data write "$DEV" 0 1m 1
	# The lower delta is somebody else's too.
	first=$DEV
	attach -r "$T/a"
	expect EBUSY "$first" merge
	detach
	switch_to "$first"
	maintains off
	is "$SYS/pdelta/0/ro" 1
	data write "$DEV" 1m 1m 1
	expect OK "$DEV" merge
	levels_are "$T/a"
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 14m 0
	detach
	attach "$T/a" "$T/large"
	expect EINVAL "$DEV" merge
	data write "$DEV" 20m 1m 2
	data verify "$DEV" 20m 1m 2
	levels_are "$T/a" "$T/large"
	detach
	attach -r "$T/a" "$T/b"
	fails ioctl "$DEV" merge
	levels_are "$T/a" "$T/b"
	data verify "$DEV" 0 2m 1
}

@test "MERGE moves everything into the lower delta: clusters of 1 MiB" {
	two_levels 64m
	expect OK "$DEV" merge
	merged "$T/top" "$T/base"
}

@test "MERGE moves everything into the lower delta: clusters of 32 KiB, version 1" {
	clusters 6
	two_levels 16m 1
	expect OK "$DEV" merge
	merged "$T/top" "$T/base"
}

@test "MERGE of a delta without data, and into one without data" {
	new_image "$T/base" 16m
	attach "$T/base"
	snapshot "$T/top"
	expect OK "$DEV" merge
	remember
	snapshot "$T/top2"
	data write "$DEV" 0 3m 1
	remember
	expect OK "$DEV" merge
	merged "$T/top2" "$T/base"
}

@test "MERGE into a raw base: a raw disk is left" {
	clusters 6
	truncate -s 32m "$T/base.raw"
	attach "$T/base.raw"
	load_begin 1 30
	load_over
	snapshot "$T/top"
	is "$SYS/pstate/fmt_version" 2
	load_begin 2 30
	load_over
	expect OK "$DEV" merge
	levels_are "$T/base.raw"
	is "$SYS/pdelta/0/format" raw
	is "$SYS/pstate/fmt_version" 0
	unlocked "$T/top"
	same_as_reference
	load_begin 3 20
	load_over
	# Again on top of it.
	snapshot "$T/top2"
	load_begin 4 20
	load_over
	detach
	attach "$T/base.raw" "$T/top2"
	same_as_reference
	expect OK "$DEV" merge
	detach
	cmp "$T/base.raw" "$T/reference"
}

@test "MERGE of three levels, twice" {
	clusters 6
	new_image "$T/0" 32m
	attach "$T/0"
	for level in 1 2; do
		load_begin $level 40
		load_over
		snapshot "$T/$level"
	done
	load_begin 3 40
	load_over
	expect OK "$DEV" merge
	levels_are "$T/0" "$T/1"
	is "$SYS/pdelta/0/ro" 1
	is "$SYS/pdelta/1/ro" 0
	unlocked "$T/2"
	same_as_reference
	load_begin 4 20
	load_over
	expect OK "$DEV" merge
	levels_are "$T/0"
	same_as_reference
	load_begin 5 20
	load_over
	detach
	check_image "$T/0"
	attach "$T/0"
	same_as_reference
}

# merges_under_load BASE SEED: snapshot and merge in turn as long as the load goes on.
merges_under_load()
{
	local n=0

	attach "$1"
	# Something to merge from the first moment on.
	load_begin "$2" 20
	load_over
	echo 4 >"$SYS/ptune/fsync_max"
	load_begin "$2" 700
	while loaded && ((n < 8)); do
		n=$((n + 1))
		snapshot "$T/$n"
		wait_for 60 something_new "$T/$n"
		expect OK "$DEV" merge
		levels_are "$1"
		unlocked "$T/$n"
		rm "$T/$n"
	done
	((n > 2)) || fail "only $n merges under load"
	load_over
	detach
	attach "$1"
	same_as_reference
}

# The top has ten clusters, or the load is over.
something_new() { ! loaded || (($(stat -c %s "$1") > 10 << (CL + 9))); }

# raised_top: a base of 16 MiB below a delta of 300 MiB, whose index takes one cluster more, and an empty top.
raised_top()
{
	new_image "$T/base" 16m
	attach "$T/base"
	data write "$DEV" 0 8m 1
	snapshot "$T/middle"
	expect OK "$DEV" grow $((300 << 11)) cl="$CL"
	data write "$DEV" 9m 1m 2
	snapshot "$T/top"
}

@test "clusters of the base move, but the driver cannot be told: the next command tells it" {
	local n ploop=$TOP/userspace/ploop steps=$BATS_TEST_TMPDIR/steps

	clusters 6
	raised_top
	strace -qq -e trace=ioctl -o "$steps" "$ploop" merge -d "$DEV" -l 0..1 3>&-
	n=$(nth_call ioctl '0x50, 0x10, ' "$steps")
	detach
	rm "$T"/{base,middle,top}
	raised_top
	fails strace -qq -o "$steps" -e trace=ioctl -e inject=ioctl:error=EIO:when="$n" \
		"$ploop" merge -d "$DEV" -l 0..1 3>&-
	grep '0x50, 0x10, .*INJECTED' "$steps"
	in_use "$T/base"
	data verify "$DEV" 0 8m 1
	"$ploop" merge -d "$DEV" -l 0..1 3>&-
	levels_are "$T/base" "$T/top"
	fails in_use "$T/base"
	data verify "$DEV" 0 8m 1
	data verify "$DEV" 9m 1m 2
	detach
	check_image "$T/base"
	attach "$T/base" "$T/top"
	data verify "$DEV" 0 8m 1
	data verify "$DEV" 9m 1m 2
}

@test "merges under load: clusters of 32 KiB" {
	clusters 6
	new_image "$T/0" 32m
	merges_under_load "$T/0" 1
	detach
	check_image "$T/0"
}

@test "merges under load: clusters of 1 MiB shared by all threads, version 1" {
	new_image "$T/0" 48m 1
	VERSION=1 merges_under_load "$T/0" 2
	detach
	check_image "$T/0"
}

@test "merges under load: raw base" {
	clusters 6
	truncate -s 32m "$T/0.raw"
	merges_under_load "$T/0.raw" 3
}

# held_merge: a merge of 24 MiB in clusters of 32 KiB, held up in its midst by a frozen host.
held_merge()
{
	clusters 6
	new_image "$T/base" 32m
	attach "$T/base"
	data write "$DEV" 0 16m 1
	snapshot "$T/top"
	data write "$DEV" 8m 24m 2
	remember
	pause merge
}

@test "while a merge runs nothing else does, and sysfs shows it" {
	local moved total

	held_merge
	new_image "$BATS_TEST_TMPDIR/c" 32m
	# Before the argument is looked at, or after it.
	expect EBUSY "$DEV" raw $SNAPSHOT 0
	expect EBUSY "$DEV" raw $GROW_NR 0
	expect EBUSY "$DEV" add "$BATS_TEST_TMPDIR/c" cl="$CL"
	expect EBUSY "$DEV" snapshot "$BATS_TEST_TMPDIR/c" cl="$CL"
	expect EBUSY "$DEV" replace 0 "$BATS_TEST_TMPDIR/c" ro cl="$CL"
	expect EBUSY "$DEV" del 0
	expect EBUSY "$DEV" stop
	expect EBUSY "$DEV" clear
	expect EBUSY "$DEV" start
	# Levels stay as they were until it is done.
	is "$SYS/pstate/top" 1
	is "$SYS/pdelta/1/transparent" 1
	is "$SYS/pdelta/0/transparent" 0
	is "$SYS/pdelta/1/image" "$(realpath "$T/top")"
	read -r moved total <"$SYS/pstate/progress"
	((moved > 0 && moved < total && total >= 768))
	# Reads go on, but perhaps of the cluster that is being moved.
	timeout 60 "$DATA" verify "$DEV" 0 8m 1
	timeout 60 "$DATA" verify "$DEV" 31m 1m 2
	thaw
	waiter_says OK
	merged "$T/top" "$T/base"
}

@test "FREEZE during a merge: who waits for the merge does not take it for its end" {
	clusters 6
	new_image "$T/base" 32m
	attach "$T/base"
	mkfs.ext4 -q -F "$DEV"
	mkdir "$T/mnt"
	mount "$DEV" "$T/mnt"
	snapshot "$T/top"
	truncate -s 16m "$T/mnt/file"
	data write "$T/mnt/file" 0 16m 1
	sync -f "$T/mnt"
	pause merge
	freezing "$T/mnt/x"
	kill -USR1 "$WAITER"
	waiter_says EINTR
	thaw
	frozen_and_thawed
	expect OK "$DEV" merge
	data verify "$T/mnt/file" 0 16m 1
	umount "$T/mnt"
	remember
	merged "$T/top" "$T/base"
}

@test "a signal ends the wait, not the merge; the next MERGE waits on" {
	held_merge
	kill -USR1 "$WAITER"
	waiter_says EINTR
	maintains merge
	expect EBUSY "$DEV" stop
	issue merge
	thaw
	waiter_says OK
	merged "$T/top" "$T/base"
}

@test "SIGKILL of who waits: the merge goes on" {
	held_merge
	kill -KILL "$WAITER"
	wait "$WAITER" || true
	maintains merge
	thaw
	wait_for 120 all_moved
	# Whoever comes ends it; when nobody need, there is nothing left to merge.
	[[ $(ioctl "$DEV" merge 2>&1) =~ ^(OK|ENOENT)$ ]]
	merged "$T/top" "$T/base"
}

all_moved()
{
	local moved total

	maintains off && return
	read -r moved total <"$SYS/pstate/progress"
	((moved == total))
}

@test "two wait: the merge is done once, and both hear of it" {
	held_merge
	"$IOCTL" "$DEV" merge >"$BATS_TEST_TMPDIR/second" 2>&1 3>&- &
	thaw
	waiter_says OK || is "$ANSWER" EALREADY
	wait
	[[ $(<"$BATS_TEST_TMPDIR/second") =~ ^(OK|EALREADY|ENOENT)$ ]]
	grep -qx OK "$ANSWER" "$BATS_TEST_TMPDIR/second"
	merged "$T/top" "$T/base"
}

@test "an aborted merge is EIO; stopped, the top is on top again, and nothing is lost" {
	held_merge
	echo 1 >"$SYS/pstate/aborted"
	thaw
	waiter_says EIO
	fails data write "$DEV" 0 4k 3
	same_as_reference
	stop || true
	maintains off
	levels_are "$T/base" "$T/top"
	is "$SYS/pdelta/1/transparent" 0
	expect OK "$DEV" clear
	# Both were being written: both are in use until somebody checks them.
	in_use "$T/base"
	in_use "$T/top"
	data poke "$T/base" 44 32 0
	data poke "$T/top" 44 32 0
	attach "$T/base" "$T/top"
	same_as_reference
	expect OK "$DEV" merge
	merged "$T/top" "$T/base"
}

@test "a merge that failed is off, nothing else begins, and another MERGE carries it on" {
	held_merge
	echo 1 >"$SYS/pstate/aborted"
	thaw
	waiter_says EIO
	is "$SYS/pdelta/1/transparent" 1
	expect EIO "$DEV" merge
	expect EBUSY "$DEV" del 0
	expect EBUSY "$DEV" grow $((1024 * 2048)) cl="$CL"
	echo 0 >"$SYS/pstate/aborted"
	expect OK "$DEV" merge
	merged "$T/top" "$T/base"
}

@test "a merge cut off by a crash goes on where it was" {
	held_merge
	crash_copy "$T/base" "$T/top"
	waiter_says OK
	merged "$T/top" "$T/base"
	attach "$T/base.crash" "$T/top.crash"
	same_as_reference
	expect OK "$DEV" merge
	merged "$T/top.crash" "$T/base.crash"
}

@test "a merge waits for space, and ends when there is some" {
	local small

	small=$(scratch_disk small 64m)
	make_fs ext4 "$small" "$T/small"
	clusters 6
	new_image "$T/small/base" 64m
	attach "$T/small/base"
	data write "$DEV" 0 1m 1
	snapshot "$T/top"
	data write "$DEV" 512k 24m 2
	remember
	# All but some 8 MiB.
	fallocate -l $(($(stat -f -c '%a * %S' "$T/small") - 8 * 1048576)) "$T/small/ballast"
	issue merge
	wait_for 60 grep -qx 3 "$SYS/pstate/event"
	maintains merge
	same_as_reference
	rm "$T/small/ballast"
	waiter_says OK
	merged "$T/top" "$T/small/base"
	umount "$T/small"
	losetup -d "$small"
}

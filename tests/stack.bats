#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# SNAPSHOT: what it refuses and in which order it looks (kernel-abi.md §1.5), that data and files are what they must be
# afterwards, under load too, and what it does for a file system.

load helpers
load stack

SNAPSHOT=0x40185004
DEL_DELTA=0x40045005
REPLACE_DELTA=0x4018500d
TRUNCATE=0x4010500e
UPDATE_INDEX=0x40085010
# SNAPSHOT freezes the file system.
FS_SYNC=0x10000000

setup_file() { host_up 3g; }
teardown_file() { host_down; }
setup() { begin; }

teardown()
{
	thaw
	finish
}

# refused ERRNO FILE ARG...: the snapshot does not happen, and FILE is as before and nobody's.
refused()
{
	local want=$1 file=$2 before

	before=$(hash_of "$file")
	expect "$want" "$DEV" snapshot "$file" "${@:3}" || return 1
	[[ $(hash_of "$file") == "$before" ]] || fail "$file was changed" || return 1
	is "$SYS/pstate/top" 0
}

@test "every command needs CAP_SYS_ADMIN" {
	new_image "$T/a" 16m
	attach "$T/a"
	for nr in $SNAPSHOT $DEL_DELTA $REPLACE_DELTA $TRUNCATE $UPDATE_INDEX 0x500c 0x40185011; do
		[[ $(setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$IOCTL" "$DEV" raw "$nr") == EPERM ]]
	done
}

@test "SNAPSHOT of a stopped device is ADD_DELTA" {
	new_image "$T/a" 16m
	new_image "$T/b" 16m
	new_device
	# Before its argument is looked at.
	expect ENOENT "$DEV" raw $SNAPSHOT 0
	expect ENOENT "$DEV" snapshot "$T/a"
	expect OK "$DEV" add "$T/a"
	expect EFAULT "$DEV" raw $SNAPSHOT 0
	expect EINVAL "$DEV" snapshot "$T/b"
	unlocked "$T/b"
	expect OK "$DEV" clear
	expect OK "$DEV" add "$T/a" ro
	expect OK "$DEV" snapshot "$T/b"
	levels_are "$T/a" "$T/b"
	expect OK "$DEV" start
	data write "$DEV" 0 1m 1
	detach
	[[ $(entry "$T/a" 0) == 0 && $(entry "$T/b" 0) == 1 ]]
}

@test "SNAPSHOT refuses arguments and files that do not fit, and nothing happens" {
	for image in a good used; do
		new_image "$T/$image" 16m
	done
	new_image "$T/small" 15m
	new_image "$T/large" 17m
	new_image "$T/v1" 16m 1
	CL=10 new_image "$T/other-cl" 16m
	cp "$T/good" "$T/crashed"
	data poke "$T/crashed" 44 32 0x746f6e59
	set_entry "$T/used" 3 1
	data poke "$T/used" 52 32 0
	truncate -s 2m "$T/used"
	attach "$T/a"
	data write "$DEV" 0 3m 1
	expect EFAULT "$DEV" raw $SNAPSHOT 0
	expect EFAULT "$DEV" snapshot "$T/good" edge=23
	expect EFAULT "$DEV" snapshot "$T/good" edge=55
	# Before the chunk is looked at.
	expect EINVAL "$DEV" snapshot "$T/good" chunks=2 edge=24
	for arg in chunks=0 format=1 format=3 cl=10 cl=0 cflags=1 offset=1 start=1 len=1 open=ro "flags=1 open=rw" ro; do
		# shellcheck disable=SC2086 # an argument, or two
		refused EINVAL "$T/good" $arg
	done
	refused EBADF "$T/good" fd=-1
	refused EOPNOTSUPP "$T/good" type=4
	for image in small large v1 other-cl used; do
		refused EINVAL "$T/$image"
	done
	refused EBUSY "$T/crashed"
	openable
	expect EBUSY "$DEV" snapshot "$T/a"
	unlocked "$T/good" "$T/small" "$T/large" "$T/v1" "$T/other-cl" "$T/used" "$T/crashed"
	in_use "$T/a"
	# The top is as writable as before.
	data write "$DEV" 1m 3m 2
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 1m 3m 2
	expect OK "$DEV" snapshot "$T/good"
	levels_are "$T/a" "$T/good"
	data verify "$DEV" 1m 3m 2
}

@test "SNAPSHOT of an aborted device is EIO" {
	new_image "$T/a" 16m
	new_image "$T/b" 16m
	attach "$T/a"
	data write "$DEV" 0 1m 1
	echo 1 >"$SYS/pstate/aborted"
	refused EIO "$T/b"
	unlocked "$T/b"
	data verify "$DEV" 0 1m 1
}

@test "a delta on a file system on this very device is ELOOP" {
	new_image "$T/a" 64m
	attach "$T/a"
	make_fs ext4 "$DEV" "$T/mnt"
	new_image "$T/mnt/b" 64m
	expect ELOOP "$DEV" snapshot "$T/mnt/b"
	unlocked "$T/mnt/b"
	is "$SYS/pstate/top" 0
	umount "$T/mnt"
	snapshot "$T/b"
	mount "$DEV" "$T/mnt"
	cp "$T/a" "$T/mnt/a"
	expect ELOOP "$DEV" replace 0 "$T/mnt/a" ro
	levels_are "$T/a" "$T/b"
	umount "$T/mnt"
}

@test "after SNAPSHOT only the new delta changes; the old file is closed, complete, and whoever likes may read it" {
	local before

	new_image "$T/a" 64m
	attach "$T/a"
	data write "$DEV" 0 8m 1
	# Not flushed: the snapshot itself must bring it into the file.
	snapshot "$T/b"
	before=$(hash_of "$T/a")
	levels_are "$T/a" "$T/b"
	is "$SYS/pdelta/0/ro" 1
	is "$SYS/pdelta/1/ro" 0
	expect RDLCK "$T/a" getlk
	expect WRLCK "$T/b" getlk
	fails in_use "$T/a"
	in_use "$T/b"
	# No longer empty, no clusters allocated ahead.
	[[ $(data peek "$T/a" 52 32) == 0 && $(stat -c %s "$T/a") == 9437184 ]]
	check_image "$T/a"
	# In place, over a part of a cluster, over a whole one, where nothing was, zeros, discard.
	data write "$DEV" 4k 4k 2
	data write "$DEV" 2m 1m 2
	data write "$DEV" 20m 64k 2
	blkdiscard -z -o 4m -l 1m "$DEV"
	blkdiscard -o 6m -l 1m "$DEV"
	expect OK "$DEV" sync
	[[ $(hash_of "$T/a") == "$before" ]]
	[[ $(entry "$T/b" 0) != 0 && $(entry "$T/b" 2) != 0 && $(entry "$T/b" 20) != 0 && $(entry "$T/b" 1) == 0 ]]
	see_new_data
	# Somebody else looks at the old state meanwhile.
	look_at_old
	see_new_data
	detach
	[[ $(hash_of "$T/a") == "$before" ]]
	unlocked "$T/a" "$T/b"
	attach -r "$T/a" "$T/b"
	see_new_data
}

see_new_data()
{
	data verify "$DEV" 0 4k 1
	data verify "$DEV" 4k 4k 2
	data verify "$DEV" 8k $((2 * 1048576 - 8192)) 1
	data verify "$DEV" 2m 1m 2
	data verify "$DEV" 3m 1m 1
	data verify "$DEV" 4m 1m 0
	data verify "$DEV" 5m 1m 1
	data verify "$DEV" 7m 1m 1
	data verify "$DEV" 20m 64k 2
	data verify "$DEV" $((20 * 1048576 + 65536)) 1m 0
}

look_at_old()
{
	local dev=$DEV

	attach -r "$T/a"
	data verify "$DEV" 0 8m 1
	data verify "$DEV" 8m 56m 0
	detach
	switch_to "$dev"
}

@test "what was flushed after a snapshot is in the files: their copies hold it, without a detach" {
	local before

	new_image "$T/a" 32m
	attach "$T/a"
	data write "$DEV" 0 4m 1
	snapshot "$T/b"
	data write "$DEV" 2m 4m 2
	sync "$DEV"
	snapshot "$T/c"
	data write "$DEV" 5m 2m 3
	blkdiscard -z -o 1m -l 64k "$DEV"
	sync "$DEV"
	freeze
	crash_copy "$T/a" "$T/b" "$T/c"
	detach
	before=$(hash_of "$T/c.crash")
	for suffix in .crash ""; do
		attach -r "$T/a$suffix" "$T/b$suffix" "$T/c$suffix"
		data verify "$DEV" 0 1m 1
		data verify "$DEV" 1m 64k 0
		data verify "$DEV" $((1048576 + 65536)) $((1048576 - 65536)) 1
		data verify "$DEV" 2m 3m 2
		data verify "$DEV" 5m 2m 3
		data verify "$DEV" 7m 25m 0
		detach
	done
	[[ $(hash_of "$T/c.crash") == "$before" ]]
}

# snapshots_under_load BASE SEED: deltas are added as long as the load goes on; then all must fit.
snapshots_under_load()
{
	local images=("$1") n=1

	attach "$1"
	load_begin "$2" 220
	while loaded && ((n < 12)); do
		snapshot "$T/$n"
		images+=("$T/$n")
		n=$((n + 1))
	done
	((n > 3)) || fail "only $((n - 1)) snapshots under load"
	load_over
	levels_are "${images[@]}"
	detach
	check_image "${images[@]:1}"
	attach "${images[@]}"
	same_as_reference
	load_begin "$2" 20
	load_over
}

@test "snapshots under load: clusters of 32 KiB, version 2" {
	clusters 6
	new_image "$T/0" 32m
	snapshots_under_load "$T/0" 1
	check_image "$T/0"
}

@test "snapshots under load: clusters of 1 MiB, version 1" {
	new_image "$T/0" 32m 1
	VERSION=1 snapshots_under_load "$T/0" 2
	check_image "$T/0"
}

@test "snapshots under load: raw base" {
	clusters 6
	truncate -s 32m "$T/0.raw"
	snapshots_under_load "$T/0.raw" 3
}

@test "SNAPSHOT with FS_SYNC: the file system in the lower delta is clean, the one on the device goes on" {
	new_image "$T/a" 128m
	attach "$T/a"
	# Nothing to freeze.
	snapshot "$T/b" flags=$FS_SYNC
	make_fs ext4 "$DEV" "$T/mnt"
	background "$DATA" record "$T/mnt" "$BATS_TEST_TMPDIR/journal" 1
	wait_for 30 recorded 5
	cp "$BATS_TEST_TMPDIR/journal" "$BATS_TEST_TMPDIR/journal-then"
	snapshot "$T/c" flags=$FS_SYNC
	wait_for 30 recorded $(($(wc -l <"$BATS_TEST_TMPDIR/journal-then") + 5))
	is_clean_below
	let_go
	data replay "$T/mnt" "$BATS_TEST_TMPDIR/journal"
	umount "$T/mnt"
	e2fsck -fn "$DEV"
}

recorded()
{
	[[ -e $BATS_TEST_TMPDIR/journal ]] && (($(wc -l <"$BATS_TEST_TMPDIR/journal") >= $1))
}

# Read-only, without the journal, all files are there that were noted before the snapshot.
is_clean_below()
{
	local dev=$DEV

	attach -r "$T/a" "$T/b"
	e2fsck -fn "$DEV" || return 1
	fails bash -c "dumpe2fs -h '$DEV' 2>/dev/null | grep -q needs_recovery" || return 1
	mkdir "$T/below"
	mount -o ro,noload "$DEV" "$T/below"
	data replay "$T/below" "$BATS_TEST_TMPDIR/journal-then" || return 1
	umount "$T/below"
	detach
	switch_to "$dev"
}

@test "SNAPSHOT with FS_SYNC freezes the file system on a partition" {
	new_image "$T/a" 128m
	attach "$T/a"
	printf ',,\n' | sfdisk -q "$DEV"
	udevadm settle
	wait_for 10 test -b "${DEV}p1"
	make_fs ext4 "${DEV}p1" "$T/mnt"
	head -c 3m /dev/urandom >"$T/mnt/file"
	# No sync: the freeze brings it to the disk.
	snapshot "$T/b" flags=$FS_SYNC
	printf 'later\n' >"$T/mnt/later"
	umount "$T/mnt"
	detach
	attach -r "$T/a"
	wait_for 10 test -b "${DEV}p1"
	e2fsck -fn "${DEV}p1"
	[[ $(debugfs -R 'stat file' "${DEV}p1" 2>&1) == *"Size: 3145728"* ]]
	[[ $(debugfs -R 'stat later' "${DEV}p1" 2>&1) == *"not found"* ]]
}

@test "128 levels, made by snapshots, and no more" {
	local i names

	clusters 6
	new_image "$T/0" 8m
	mapfile -t names < <(printf "$T/%s\n" {1..128})
	tee "${names[@]}" <"$T/0" >/dev/null
	attach "$T/0"
	for i in {1..127}; do
		((i % 16)) || data write "$DEV" $((i * 32768)) 64k "$i"
		expect OK "$DEV" snapshot "$T/$i" cl=6
	done
	is "$SYS/pstate/top" 127
	expect EINVAL "$DEV" snapshot "$T/128" cl=6
	unlocked "$T/128"
	data write "$DEV" 0 4k 200
	data write "$DEV" $((64 * 32768)) 512 200
	written_at_16th
	detach
	# One process for all of them.
	"$TOP/userspace/ploop" mount -d "$DEV" "$T/0" "${names[@]:0:127}"
	is "$SYS/pstate/top" 127
	written_at_16th
}

written_at_16th()
{
	local i

	data verify "$DEV" 0 4k 200
	data verify "$DEV" $((64 * 32768)) 512 200
	data verify "$DEV" $((64 * 32768 + 512)) $((65536 - 512)) 64
	for i in 16 32 48 80 96 112; do
		data verify "$DEV" $((i * 32768)) 64k "$i"
	done
	data verify "$DEV" $((120 * 32768)) 1m 0
}

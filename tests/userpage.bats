#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The user's page, sections Snapshot, Merge and Grow, command by command, while fio writes and verifies: each command
# must be transparent to it, and the data be there when the resulting files are mounted again.

load helpers
load stack

PLOOP=$TOP/userspace/ploop
DEV=/dev/ploop0
SYS=/sys/block/ploop0

setup_file() { host_up 20g; }
teardown_file() { host_down; }

setup()
{
	begin
	cd "$T" || return
	mkdir mnt
}

teardown()
{
	io_end || true
	cd /
	finish
}

ploop() { "$PLOOP" "$@" 3>&-; }

# --- load

# round N TARGET [OPTION...]: a verified job; four in turn have a part of TARGET each. The same N is the same data.
round()
{
	fio --name=round --filename="$2" --offset=$(($1 % 4 * 8))m --size=8m --io_size=2m --rw=randwrite --bs=16k \
		--ioengine=psync --direct=1 --fsync=32 --verify=crc32c --verify_fatal=1 --randseed="$1" \
		--output="$BATS_TEST_TMPDIR/fio.log" "${@:3}"
}

rounds()
{
	local n=1

	while [[ ! -e $BATS_TEST_TMPDIR/enough ]]; do
		if ! round $n "$1" --do_verify=1; then
			cp "$BATS_TEST_TMPDIR/fio.log" "$BATS_TEST_TMPDIR/io-failed"
			return 1
		fi
		echo $n >"$BATS_TEST_TMPDIR/rounds"
		n=$((n + 1))
	done
}

# io_begin TARGET: rounds in the background until io_end.
io_begin()
{
	rm -f "$BATS_TEST_TMPDIR/enough"
	echo 0 >"$BATS_TEST_TMPDIR/rounds"
	rounds "$1" 3>&- &
	IO=$!
	wait_for 60 rounds_over 0
}

rounds_over()
{
	[[ ! -e $BATS_TEST_TMPDIR/io-failed ]] || return 0
	(($(<"$BATS_TEST_TMPDIR/rounds") > $1))
}

io_went_well()
{
	[[ ! -e $BATS_TEST_TMPDIR/io-failed ]] || fail "$(<"$BATS_TEST_TMPDIR/io-failed")"
}

io_end()
{
	[[ ${IO:-} ]] || return 0
	touch "$BATS_TEST_TMPDIR/enough"
	wait "$IO" || true
	IO=
	io_went_well
}

# page COMMAND...: as the page has it, beside the load, which must have verified what it wrote before and after it.
page()
{
	local before

	"$@" || fail "failed: $*" || return 1
	before=$(<"$BATS_TEST_TMPDIR/rounds")
	# One round was under way at the time, the next began later.
	wait_for 120 rounds_over $((before + 1)) || return 1
	io_went_well || fail "after $*"
}

# io_check TARGET: the last rounds are there.
io_check()
{
	local last n

	last=$(<"$BATS_TEST_TMPDIR/rounds")
	for ((n = last; n > 0 && n > last - 4; n--)); do
		round "$n" "$1" --verify_only=1 || fail "round $n: $(<"$BATS_TEST_TMPDIR/fio.log")" || return 1
	done
}

size_is() { [[ $(blockdev --getsize64 "$DEV") == $(($1 << 30)) ]] || fail "$DEV: $(blockdev --getsize64 "$DEV") bytes"; }

# again FILE...: detached, checked, attached, and all data are there. Marks of mark are DEV:MEBIBYTE pairs.
again()
{
	local file

	io_end
	ploop umount -d "$DEV"
	for file; do
		[[ $file == *.raw ]] || ploop check "$file"
	done
	ploop mount ${RAW:+-f raw} -d "$DEV" "$@"
	io_check "$DEV"
	marks_are_there
}

# mark N: a mebibyte with data of its own, which no later step may change, far behind those of the load.
mark()
{
	data write "$DEV" $((100 + $1))m 1m "$1"
	MARKS+=("$1")
}

marks_are_there()
{
	local n

	for n in "${MARKS[@]}"; do
		data verify "$DEV" $((100 + n))m 1m "$n" || return 1
	done
}

# Steps 1 to 5 of the page, then both snapshots, with a mark between the commands.
simple_snapshotted_configuration()
{
	MARKS=()
	ploop init -s 1g "${@:2}" "${1:-ploop.image}"
	ploop mount -f "${FORMAT:-ploop1}" -d /dev/ploop0 "${1:-ploop.image}"
	mark 1
	io_begin /dev/ploop0
	page ploop snapshot -d /dev/ploop0 ploop-delta.image
	mark 2
	page ploop snapshot -d /dev/ploop0 ploop-delta1.image
	mark 3
	levels_are "${1:-ploop.image}" ploop-delta.image ploop-delta1.image
}

# --- Snapshot

@test "page, Snapshot: the base no longer changes and can be backed up" {
	local before

	simple_snapshotted_configuration
	is "$SYS/pdelta/0/ro" 1
	is "$SYS/pdelta/1/ro" 1
	is "$SYS/pdelta/2/ro" 0
	before=$(hash_of ploop.image)
	cp ploop.image backup.image
	cp ploop-delta.image backup-delta.image
	page mark 4
	[[ $(hash_of ploop.image) == "$before" && $(hash_of backup.image) == "$before" ]]
	# What exists is not taken.
	fails ploop snapshot -d /dev/ploop0 backup.image
	again ploop.image ploop-delta.image ploop-delta1.image
	ploop umount -d /dev/ploop0
	# The backup is the disk of that moment.
	ploop mount -r -d /dev/ploop0 backup.image backup-delta.image
	data verify "$DEV" 101m 1m 1
	data verify "$DEV" 102m 1m 2
	data verify "$DEV" 103m 2m 0
	ploop umount -d /dev/ploop0
}

@test "page, Snapshot: with -F the file system in the base is clean, on a partition with -t ext4" {
	ploop init -s 1g -t ext4 ploop.image
	ploop mount -m mnt -d /dev/ploop0 ploop.image
	printf 'before\n' >mnt/file
	io_begin mnt/fio
	page ploop snapshot -F -d /dev/ploop0 ploop-delta.image
	printf 'after\n' >mnt/file
	ploop mount -r -d /dev/ploop1 ploop.image
	wait_for 10 test -b /dev/ploop1p1
	e2fsck -fn /dev/ploop1p1
	mkdir below
	mount -o ro,noload /dev/ploop1p1 below
	is below/file before
	umount below
	ploop umount -d /dev/ploop1
	page ploop merge -d /dev/ploop0
	rm ploop-delta.image
	io_end
	ploop umount -m mnt
	ploop check ploop.image
	ploop mount -m mnt -d /dev/ploop0 ploop.image
	is mnt/file after
	io_check mnt/fio
	ploop umount -m mnt
	ploop mount -r -d /dev/ploop0 ploop.image
	wait_for 10 test -b /dev/ploop0p1
	e2fsck -fn /dev/ploop0p1
}

# --- Merge

# three_deltas: ploop.image and ploop-d, -d1, -d2.image above it, with the marks, not mounted.
three_deltas()
{
	local name

	MARKS=()
	ploop init -s 1g "$@" "${BASE:-ploop.image}"
	ploop mount ${RAW:+-f raw} -d /dev/ploop0 "${BASE:-ploop.image}"
	mark 1
	io_begin /dev/ploop0
	for name in d d1 d2; do
		page ploop snapshot -d /dev/ploop0 ploop-$name.image
		mark $((${#MARKS[@]} + 1))
	done
	io_end
	ploop umount -d /dev/ploop0
}

after_offline_merge()
{
	ploop mount ${RAW:+-f raw} -d /dev/ploop0 "$@"
	io_check /dev/ploop0
	marks_are_there
	data verify "$DEV" 105m 10m 0
	# It goes on.
	io_begin /dev/ploop0
	mark 9
	again "$@"
}

@test "page, Offline merge: one source" {
	three_deltas
	ploop merge ploop-d2.image ploop-d1.image
	rm ploop-d2.image
	ploop check ploop-d1.image
	after_offline_merge ploop.image ploop-d.image ploop-d1.image
}

@test "page, Offline merge: three sources" {
	three_deltas
	ploop merge ploop-d2.image ploop-d1.image ploop-d.image ploop.image
	rm ploop-d2.image ploop-d1.image ploop-d.image
	ploop check ploop.image
	after_offline_merge ploop.image
	ploop umount -d /dev/ploop0
	qemu-img check -q -f parallels ploop.image
}

@test "page, Offline merge: raw base" {
	BASE=ploop.raw RAW=1
	three_deltas -f raw
	ploop merge ploop-d2.image ploop-d1.image
	ploop merge ploop-d1.image ploop-d.image
	ploop merge -f raw ploop-d.image ploop.raw
	rm ploop-d.image ploop-d1.image ploop-d2.image
	after_offline_merge ploop.raw
	ploop umount -d /dev/ploop0
	data verify ploop.raw 101m 1m 1
	data verify ploop.raw 104m 1m 4
}

@test "page, Online merge: 0..2" {
	simple_snapshotted_configuration
	page ploop merge -d /dev/ploop0 -l 0..2
	levels_are ploop.image
	rm ploop-delta.image ploop-delta1.image
	mark 4
	again ploop.image
}

@test "page, Online merge: 0..1" {
	simple_snapshotted_configuration
	page ploop merge -d /dev/ploop0 -l 0..1
	levels_are ploop.image ploop-delta1.image
	rm ploop-delta.image
	mark 4
	again ploop.image ploop-delta1.image
}

@test "page, Online merge: 1..2" {
	local before

	simple_snapshotted_configuration
	before=$(hash_of ploop.image)
	page ploop merge -d /dev/ploop0 -l 1..2
	levels_are ploop.image ploop-delta.image
	rm ploop-delta1.image
	mark 4
	again ploop.image ploop-delta.image
	[[ $(hash_of ploop.image) == "$before" ]]
}

@test "page, Online merge: everything without -l, raw base" {
	FORMAT=raw RAW=1
	simple_snapshotted_configuration ploop.raw -f raw
	page ploop merge -d /dev/ploop0
	levels_are ploop.raw
	rm ploop-delta.image ploop-delta1.image
	mark 4
	again ploop.raw
}

# --- Grow

@test "page, Offline grow: ploop1" {
	MARKS=()
	ploop init -s 1g ploop.image
	ploop mount -d /dev/ploop0 ploop.image
	mkfs.ext4 -q -F -E nodiscard /dev/ploop0
	ploop umount -d /dev/ploop0
	ploop grow -s 32g ploop.image
	ploop check ploop.image
	ploop mount -d /dev/ploop0 ploop.image
	size_is 32
	e2fsck -fn /dev/ploop0
	data verify /dev/ploop0 1g 1g 0
	data write /dev/ploop0 $((31 << 30)) 1m 1
	ploop umount -d /dev/ploop0
	qemu-img check -q -f parallels ploop.image
}

@test "page, Offline grow: raw" {
	ploop init -s 128m -f raw ploop.raw
	data write ploop.raw 0 128m 1
	ploop grow -s 32g -f raw ploop.raw
	[[ $(stat -c %s ploop.raw) == 34359738368 ]]
	ploop mount -f raw -d /dev/ploop0 ploop.raw
	size_is 32
	data verify /dev/ploop0 0 128m 1
	data verify /dev/ploop0 128m 8m 0
}

@test "page, Online grow: 32g, and resize2fs of the mounted file system" {
	ploop init -s 1g ploop.image
	ploop mount -d /dev/ploop0 ploop.image
	mkfs.ext4 -q -F -E nodiscard /dev/ploop0
	mount /dev/ploop0 mnt
	io_begin mnt/fio
	page ploop grow -s 32g -d /dev/ploop0
	size_is 32
	page resize2fs /dev/ploop0 32g
	(($(stat -f -c '%b * %S' mnt) > 30 * (1 << 30)))
	page ploop snapshot -d /dev/ploop0 ploop-delta.image
	page ploop grow -s 40g -d /dev/ploop0
	size_is 40
	page resize2fs /dev/ploop0
	# The base is smaller: it is made larger first.
	page ploop merge -d /dev/ploop0
	levels_are ploop.image
	rm ploop-delta.image
	io_end
	ploop umount -d /dev/ploop0
	ploop check ploop.image
	ploop mount -m mnt -d /dev/ploop0 ploop.image
	size_is 40
	io_check mnt/fio
	(($(stat -f -c '%b * %S' mnt) > 38 * (1 << 30)))
	umount mnt
	e2fsck -fn /dev/ploop0
}

@test "page, Online grow: a raw device" {
	MARKS=()
	RAW=1
	ploop init -s 256m -f raw ploop.raw
	ploop mount -f raw -d /dev/ploop0 ploop.raw
	mark 1
	io_begin /dev/ploop0
	page ploop grow -s 2g -d /dev/ploop0
	size_is 2
	data verify /dev/ploop0 1g 8m 0
	data write /dev/ploop0 1g 1m 5
	again ploop.raw
	size_is 2
	data verify /dev/ploop0 1g 1m 5
}

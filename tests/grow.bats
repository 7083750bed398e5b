#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# GROW: what it refuses; size, header and data afterwards; the index that grows over data, which move; under load;
# interrupted, aborted, cut off by a crash. With clusters of 32 KiB one index cluster maps 8176 clusters, 255.5 MiB.

load helpers
load stack

GROW_NR=0x40185011
SNAPSHOT=0x40185004
MIB=2048

setup_file() { host_up 3g; }
teardown_file() { host_down; }

setup()
{
	begin
	clusters 6
}

teardown()
{
	thaw
	finish
}

# grows_to MEBIBYTES: and the device knows.
grows_to()
{
	expect OK "$DEV" grow $(($1 * MIB)) cl="$CL"
	[[ $(device_size) == $(($1 * 1048576)) ]] || fail "the size is $(device_size)"
	maintains off
}

# header_says FILE MEBIBYTES: all fields that depend on the size.
header_says()
{
	local file=$1 clusters=$((($2 * MIB) >> CL)) sectors=$(($2 * MIB)) index

	index=$(((64 + 4 * clusters + (512 << CL) - 1) / (512 << CL)))
	[[ $(data peek "$file" 36 64) == "$sectors" && $(data peek "$file" 32 32) == "$clusters" &&
		$(data peek "$file" 48 32) == $((index << CL)) ]] || fail "$file: header of another size"
}

# no_data_in_index FILE MEBIBYTES [UNIT]: the clusters that the index took are not data of this part of the disk.
no_data_in_index()
{
	local clusters=$((($2 * MIB) >> CL)) first

	first=$(($(data peek "$1" 48 32) >> CL))
	od -An -v -tu4 -w4 -j 64 -N $((4 * clusters)) "$1" | awk -v first="$first" -v unit="${3:-1}" '
		$1 && $1 / unit < first { print "cluster " NR - 1 " lies in the index"; bad = 1 }
		$1 && seen[$1]++ { print "two clusters at " $1; bad = 1 }
		END { exit bad }'
}

@test "GROW: what it refuses" {
	new_image "$T/a" 16m
	new_device
	expect ENOENT "$DEV" raw $GROW_NR 0
	expect ENOENT "$DEV" grow null
	attach "$T/a"
	expect EFAULT "$DEV" grow null
	expect EFAULT "$DEV" grow $((32 * MIB)) cl=6 edge=23
	expect EINVAL "$DEV" grow $((32 * MIB)) cl=11
	expect EINVAL "$DEV" grow $((15 * MIB)) cl=6
	expect EINVAL "$DEV" grow 0 cl=6
	expect EINVAL "$DEV" grow $((16 * MIB + 8)) cl=6
	expect EINVAL "$DEV" grow 1 cl=6 flags=8
	# No change.
	expect OK "$DEV" grow $((16 * MIB)) cl=6
	expect OK "$DEV" grow 512 cl=6 flags=8
	[[ $(device_size) == 16777216 ]]
	maintains off
	echo 1 >"$SYS/pstate/aborted"
	expect EIO "$DEV" grow $((32 * MIB)) cl=6
	[[ $(device_size) == 16777216 ]]
}

@test "GROW of version 1 over its limit is EFBIG" {
	clusters 11
	new_image "$T/a" 16m 1
	attach "$T/a"
	# 2 TiB are too many sectors for the header; with one cluster less the file would not fit into its index.
	expect EFBIG "$DEV" grow 2097152 flags=8
	expect EFBIG "$DEV" grow 2097151 flags=8
	[[ $(device_size) == 16777216 ]]
	data write "$DEV" 15m 1m 1
	expect OK "$DEV" grow 2097000 flags=8
	[[ $(device_size) == $((2097000 * 1048576)) ]]
	data write "$DEV" $((2096999 * 1048576)) 1m 2
	data verify "$DEV" 15m 1m 1
	detach
	attach "$T/a"
	data verify "$DEV" $((2096999 * 1048576)) 1m 2
	data verify "$DEV" 15m 1m 1
}

@test "GROW without new index clusters: size, header, uevent; the new part is zeros and writable" {
	new_image "$T/a" 16m
	attach "$T/a"
	data write "$DEV" 0 16m 1
	udevadm monitor --kernel --property --subsystem-match=block >"$T/uevents" 2>&1 3>&- &
	HELPERS+=($!)
	wait_for 10 grep -q KERNEL "$T/uevents"
	grows_to 24
	wait_for 20 grep -q RESIZE=1 "$T/uevents"
	[[ $(<"$SYS/size") == $((24 * MIB)) ]]
	header_says "$T/a" 24
	in_use "$T/a"
	data verify "$DEV" 0 16m 1
	data verify "$DEV" 16m 8m 0
	data write "$DEV" 15m 9m 2
	fails data write "$DEV" 24m 4k 2
	# By a single cluster, counted in clusters.
	expect OK "$DEV" grow 769 cl=6 flags=8
	[[ $(device_size) == $((24 * 1048576 + 32768)) ]]
	data verify "$DEV" 24m 32k 0
	data write "$DEV" 24m 32k 3
	detach
	check_image "$T/a"
	attach "$T/a"
	data verify "$DEV" 0 15m 1
	data verify "$DEV" 15m 9m 2
	data verify "$DEV" 24m 32k 3
}

# grows_under_load VERSION: over two borders of the index, while data are written.
grows_under_load()
{
	local unit=1 rounds=0 size

	[[ $1 != 1 ]] || unit=64
	new_image "$T/a" 200m "$1"
	attach "$T/a"
	# The first clusters of the file, which the index will want.
	data write "$DEV" 0 1m 1
	dd if="$DEV" of="$T/reference" bs=1M count=1 status=none
	load_begin 1 150
	for size in 201 300 600; do
		! loaded || rounds=$((rounds + 1))
		grows_to $size
		header_says "$T/a" $size
	done
	((rounds > 1)) || fail "the load was over before the second grow"
	load_over
	no_data_in_index "$T/a" 600 $unit
	load_begin 2 30
	load_over
	detach
	check_image "$T/a"
	no_data_in_index "$T/a" 600 $unit
	attach "$T/a"
	same_as_reference
}

@test "GROW under load, data move out of the index's way" { grows_under_load 2; }

@test "GROW under load, data move out of the index's way: version 1" { grows_under_load 1; }

@test "GROW of an empty image, and of one whose file is shorter than the new index" {
	new_image "$T/a" 16m
	attach "$T/a"
	grows_to 1024
	header_says "$T/a" 1024
	data verify "$DEV" 1020m 4m 0
	data write "$DEV" 1020m 4m 1
	detach
	new_image "$T/b" 16m
	attach "$T/b"
	data write "$DEV" 0 64k 1
	# Two clusters of data, five index clusters.
	grows_to 1024
	data write "$DEV" 512m 1m 2
	detach
	check_image "$T/a" "$T/b"
	no_data_in_index "$T/b" 1024
	attach "$T/b"
	data verify "$DEV" 0 64k 1
	data verify "$DEV" 512m 1m 2
	data verify "$DEV" 513m 1m 0
	detach
	attach "$T/a"
	data verify "$DEV" 1020m 4m 1
}

@test "the old places of moved data hold nothing: what comes to the index is zeros" {
	new_image "$T/a" 16m
	attach "$T/a"
	data write "$DEV" 0 1m 1
	sync "$DEV"
	grows_to 2000
	# Slots behind the disk in the last index cluster too.
	cmp <(tail -c +$((64 + 4 * 32 + 1)) "$T/a" | head -c $((8 * 32768 - 64 - 4 * 32))) \
		<(head -c $((8 * 32768 - 64 - 4 * 32)) /dev/zero)
	detach
	attach "$T/a"
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 1m 1m 0
	data verify "$DEV" 1999m 1m 0
	data verify "$DEV" 255m 2m 0
}

@test "GROW over smaller lower deltas touches the top only; a merge into a smaller one is EINVAL" {
	local before

	new_image "$T/a" 200m
	attach "$T/a"
	data write "$DEV" 0 4m 1
	data write "$DEV" 199m 1m 1
	snapshot "$T/b"
	before=$(hash_of "$T/a")
	data write "$DEV" 2m 4m 2
	grows_to 600
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 4m 2
	data verify "$DEV" 199m 1m 1
	data verify "$DEV" 200m 60m 0
	data write "$DEV" 400m 1m 3
	# A copy-up from the last cluster that the lower delta has.
	data write "$DEV" $((200 * 1048576 - 512)) 1024 4
	[[ $(hash_of "$T/a") == "$before" ]]
	expect EINVAL "$DEV" merge
	snapshot "$T/c"
	data write "$DEV" 599m 1m 5
	expect OK "$DEV" merge
	detach
	check_image "$T/a" "$T/b"
	[[ $(hash_of "$T/a") == "$before" ]]
	attach "$T/a" "$T/b"
	[[ $(device_size) == $((600 * 1048576)) ]]
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 4m 2
	data verify "$DEV" 199m $((1048576 - 512)) 1
	data verify "$DEV" $((200 * 1048576 - 512)) 1024 4
	data verify "$DEV" $((200 * 1048576 + 512)) 1m 0
	data verify "$DEV" 400m 1m 3
	data verify "$DEV" 599m 1m 5
}

@test "GROW of a raw device: the file follows, sizes are rounded up to 4 KiB" {
	truncate -s 16m "$T/a.raw"
	attach "$T/a.raw"
	data write "$DEV" 0 16m 1
	expect EINVAL "$DEV" grow $((15 * MIB)) cl=6
	grows_to 40
	[[ $(stat -c %s "$T/a.raw") == 41943040 ]]
	data verify "$DEV" 0 16m 1
	data verify "$DEV" 16m 24m 0
	data write "$DEV" 39m 1m 2
	expect OK "$DEV" grow $((40 * MIB + 1)) cl=6
	[[ $(device_size) == $((40 * 1048576 + 4096)) ]]
	detach
	data verify "$T/a.raw" 0 16m 1
	data verify "$T/a.raw" 39m 1m 2
}

# 200 GiB: an index of 802 clusters.
HUGE=204800

# held_grow: 801 clusters of data have to move; the host is frozen in the midst of it.
held_grow()
{
	new_image "$T/a" 32m
	attach "$T/a"
	data write "$DEV" 0 28m 1
	data write "$DEV" 4m 512 2
	sync "$DEV"
	dd if="$DEV" of="$T/reference" bs=1M iflag=direct status=none
	pause grow $((HUGE * MIB)) cl=6
}

# The first 32 MiB are what they were, whatever the size.
still_there() { cmp -n 33554432 "$DEV" "$T/reference"; }

grown()
{
	[[ $(device_size) == $((HUGE * 1048576)) ]] || fail "the size is $(device_size)"
	maintains off
	header_says "$T/a" $HUGE
	no_data_in_index "$T/a" 32
	still_there
	data verify "$DEV" 32m 4m 0
	data write "$DEV" $(((HUGE - 1) * 1048576)) 1m 3
	detach
	check_image "$T/a"
	attach "$T/a"
	still_there
	data verify "$DEV" $(((HUGE - 1) * 1048576)) 1m 3
}

@test "while a grow runs nothing else does; a signal ends the wait, not the grow" {
	held_grow
	expect EBUSY "$DEV" raw $SNAPSHOT 0
	expect EBUSY "$DEV" merge
	expect EBUSY "$DEV" del 0
	expect EBUSY "$DEV" stop
	expect EBUSY "$DEV" clear
	[[ $(device_size) == 33554432 ]]
	# Reads go on, but perhaps of the cluster that is being moved.
	timeout 60 "$DATA" verify "$DEV" 26m 2m 1
	timeout 60 "$DATA" verify "$DEV" 28m 4m 0
	kill -USR1 "$WAITER"
	waiter_says EINTR
	maintains grow
	# The argument is not looked at any more.
	issue grow null
	thaw
	waiter_says OK
	grown
}

@test "SIGKILL of who waits: the grow goes on" {
	held_grow
	kill -KILL "$WAITER"
	wait "$WAITER" || true
	thaw
	# EFAULT: it is already over.
	[[ $(ioctl "$DEV" grow null 2>&1) =~ ^(OK|EFAULT)$ ]]
	grown
}

@test "an aborted grow is EIO; the size is the old one, and nothing is lost" {
	held_grow
	echo 1 >"$SYS/pstate/aborted"
	thaw
	waiter_says EIO
	maintains off
	[[ $(device_size) == 33554432 ]]
	still_there
	stop || true
	expect OK "$DEV" clear
	data poke "$T/a" 44 32 0
	attach "$T/a"
	[[ $(device_size) == 33554432 ]]
	still_there
	expect OK "$DEV" grow $((HUGE * MIB)) cl=6
	grown
}

@test "a grow cut off by a crash: the old size, the old data, and it can be done again" {
	held_grow
	crash_copy "$T/a"
	waiter_says OK
	grown
	detach
	mv "$T/a.crash" "$T/a"
	attach "$T/a"
	[[ $(device_size) == 33554432 ]]
	still_there
	data write "$DEV" 30m 1m 4
	data verify "$DEV" 30m 1m 4
	data write "$DEV" 30m 1m 0
	expect OK "$DEV" grow $((HUGE * MIB)) cl=6
	grown
}

#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Single deltas of a stack: DEL_DELTA, REPLACE_DELTA, UPDATE_INDEX, TRUNCATE; what they refuse and in which order they
# look (kernel-abi.md §1.5), and that data and files are what they must be afterwards.

load helpers
load stack

DEL_DELTA=0x40045005
REPLACE_DELTA=0x4018500d
TRUNCATE=0x4010500e
UPDATE_INDEX=0x40085010

setup_file() { host_up 3g; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

# --- DEL_DELTA

@test "DEL_DELTA: what it refuses" {
	for image in a b c; do
		new_image "$T/$image" 16m
	done
	new_device
	expect EFAULT "$DEV" raw $DEL_DELTA 0
	expect ENOENT "$DEV" del 0
	attach "$T/a" "$T/b" "$T/c"
	expect EFAULT "$DEV" raw $DEL_DELTA 0
	expect EBUSY "$DEV" del 0
	expect EBUSY "$DEV" del 2
	expect ENOENT "$DEV" del 3
	expect ENOENT "$DEV" del 128
	expect ENOENT "$DEV" del 4294967295
	levels_are "$T/a" "$T/b" "$T/c"
	data write "$DEV" 0 64k 1
	data verify "$DEV" 0 64k 1
}

@test "DEL_DELTA takes an empty delta out of a running stack: levels move down, data stay" {
	local i

	clusters 6
	new_image "$T/0" 32m
	attach "$T/0"
	for i in 1 2 3 4; do
		# Level 2 gets nothing.
		((i == 3)) || data write "$DEV" "$((i - 1))m" 2m "$i"
		snapshot "$T/$i"
	done
	data write "$DEV" 8m 1m 9
	dd if="$DEV" of="$T/reference" bs=1M iflag=direct status=none
	load_begin 5 60
	expect OK "$DEV" del 2
	levels_are "$T/0" "$T/1" "$T/3" "$T/4"
	unlocked "$T/2"
	rm "$T/2"
	load_over
	is "$SYS/pdelta/2/ro" 1
	is "$SYS/pdelta/3/ro" 0
	expect EBUSY "$DEV" del 3
	snapshot "$T/5"
	levels_are "$T/0" "$T/1" "$T/3" "$T/4" "$T/5"
	detach
	attach "$T/0" "$T/1" "$T/3" "$T/4" "$T/5"
	same_as_reference
}

@test "DEL_DELTA of a stopped device: any level, the cookie goes with the last" {
	for image in a b c; do
		new_image "$T/$image" 16m
	done
	new_device
	expect OK "$DEV" add "$T/a" ro cookie=biscuit
	expect OK "$DEV" add "$T/b" ro
	expect OK "$DEV" add "$T/c"
	in_use "$T/c"
	expect OK "$DEV" del 2
	fails in_use "$T/c"
	levels_are "$T/a" "$T/b"
	expect OK "$DEV" add "$T/c"
	expect OK "$DEV" del 0
	levels_are "$T/b" "$T/c"
	expect OK "$DEV" start
	data write "$DEV" 0 1m 1
	stop
	expect OK "$DEV" del 0
	is "$SYS/pstate/cookie" biscuit
	expect OK "$DEV" start
	data verify "$DEV" 0 1m 1
	stop
	expect OK "$DEV" del 0
	is "$SYS/pstate/top" 4294967295
	is "$SYS/pstate/cookie" ""
	fails in_use "$T/c"
	unlocked "$T/a" "$T/b" "$T/c"
	expect ENOENT "$DEV" start
	# The next first one brings its own version.
	new_image "$T/old" 16m 1
	expect OK "$DEV" add "$T/old"
	expect OK "$DEV" del 0
	expect OK "$DEV" add "$T/c"
}

# --- REPLACE_DELTA

@test "REPLACE_DELTA: what it refuses, and nothing happens" {
	for image in a b; do
		new_image "$T/$image" 16m
	done
	CL=10 new_image "$T/other-cl" 16m
	new_image "$T/v1" 16m 1
	attach "$T/a"
	data write "$DEV" 0 3m 1
	snapshot "$T/b2"
	data write "$DEV" 2m 3m 2
	cp "$T/a" "$T/copy"
	cp "$T/a" "$T/crashed"
	data poke "$T/crashed" 44 32 0x746f6e59
	expect EFAULT "$DEV" raw $REPLACE_DELTA 0
	expect EFAULT "$DEV" replace 0 "$T/copy" ro edge=23
	expect EINVAL "$DEV" replace 0 "$T/copy" ro chunks=2
	expect ENOENT "$DEV" replace 2 "$T/copy" ro
	expect ENOENT "$DEV" replace 127 "$T/copy"
	# Read-only stays read-only, writable stays writable.
	expect EINVAL "$DEV" replace 0 "$T/copy"
	expect EINVAL "$DEV" replace 1 "$T/copy" ro
	expect EINVAL "$DEV" replace 0 "$T/copy" ro format=3
	expect EINVAL "$DEV" replace 0 "$T/other-cl" ro cl=10
	expect EINVAL "$DEV" replace 0 "$T/v1" ro
	expect EBADF "$DEV" replace 0 "$T/copy" ro fd=-1
	expect EBUSY "$DEV" replace 0 "$T/crashed" ro
	# The top of a running device.
	cp "$T/b2" "$T/top-copy"
	data poke "$T/top-copy" 44 32 0
	expect EBUSY "$DEV" replace 1 "$T/top-copy"
	unlocked "$T/copy" "$T/crashed" "$T/other-cl" "$T/v1" "$T/top-copy"
	levels_are "$T/a" "$T/b2"
	data verify "$DEV" 2m 3m 2
	stop
	expect EINVAL "$DEV" replace 1 "$T/copy" format=1
	openable
	expect EBUSY "$DEV" replace 1 "$T/b2"
	expect OK "$DEV" start
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 3m 2
}

# moved_copy FROM TO CLUSTER: a copy in which this cluster of the disk lies at the end of the file.
moved_copy()
{
	local bytes=$((512 << CL)) end

	cp --sparse=always "$1" "$2"
	end=$(($(stat -c %s "$2") / bytes))
	dd if="$2" of="$2" bs=$bytes skip="$(entry "$2" "$3")" seek=$end count=1 conv=notrunc,fsync status=none
	dd if=/dev/urandom of="$2" bs=$bytes seek="$(entry "$2" "$3")" count=1 conv=notrunc,fsync status=none
	set_entry "$2" "$3" "$end"
}

@test "REPLACE_DELTA of a running device by a copy, also by one in other order, under load" {
	clusters 6
	new_image "$T/a" 32m
	attach "$T/a"
	load_begin 1 30
	load_over
	data write "$DEV" 0 64k 7
	dd if=<(data_of "$DEV" 64k) of="$T/reference" conv=notrunc status=none
	snapshot "$T/b"
	snapshot "$T/c"
	cp --sparse=always "$T/b" "$T/b2"
	moved_copy "$T/a" "$T/a2" 1
	load_begin 2 80
	expect OK "$DEV" replace 0 "$T/a2" ro cl=6
	levels_are "$T/a2" "$T/b" "$T/c"
	unlocked "$T/a"
	expect OK "$DEV" replace 1 "$T/b2" ro cl=6
	levels_are "$T/a2" "$T/b2" "$T/c"
	# Nobody needs the old files.
	dd if=/dev/urandom of="$T/a" bs=1M count=4 conv=notrunc status=none
	rm "$T/b"
	load_over
	expect RDLCK "$T/a2" getlk
	detach
	unlocked "$T/a2" "$T/b2" "$T/c"
	attach "$T/a2" "$T/b2" "$T/c"
	same_as_reference
}

data_of() { head -c "$(numfmt --from=iec "${2^^}")" "$1"; }

@test "REPLACE_DELTA of the top, of a raw base, and of a stopped device" {
	truncate -s 16m "$T/base.raw"
	data write "$T/base.raw" 0 4m 1
	new_image "$T/a" 16m
	attach "$T/base.raw" "$T/a"
	cp "$T/base.raw" "$T/base2.raw"
	expect OK "$DEV" replace 0 "$T/base2.raw" ro format=1
	rm "$T/base.raw"
	data verify "$DEV" 0 4m 1
	is "$SYS/pdelta/0/format" raw
	# Nothing written yet: an empty one is a copy.
	new_image "$T/b" 16m
	stop
	expect OK "$DEV" replace 1 "$T/b"
	expect OK "$DEV" start
	fails in_use "$T/a"
	in_use "$T/b"
	data write "$DEV" 1m 1m 2
	stop
	cp "$T/b" "$T/c"
	expect OK "$DEV" replace 1 "$T/c"
	levels_are "$T/base2.raw" "$T/c"
	unlocked "$T/a" "$T/b"
	expect OK "$DEV" start
	data write "$DEV" 2m 1m 2
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 1m 2m 2
	data verify "$DEV" 3m 1m 1
	[[ $(entry "$T/b" 2) == 0 ]]
}

@test "128 levels: a delta of a full stack can be exchanged, and there is no room for more" {
	local i images=()

	clusters 6
	for i in {0..127}; do
		new_image "$T/$i" 1m
		images+=("$T/$i")
	done
	attach "${images[@]}"
	data write "$DEV" 0 1m 1
	new_image "$T/more" 1m
	expect EBUSY "$DEV" add "$T/more"
	fails says OK "$DEV" snapshot "$T/more" cl="$CL"
	cp "$T/64" "$T/copy"
	expect OK "$DEV" replace 64 "$T/copy" ro cl="$CL"
	is "$SYS/pdelta/64/image" "$(realpath "$T/copy")"
	unlocked "$T/64" "$T/more"
	data verify "$DEV" 0 1m 1
	images[64]=$T/copy
	detach
	attach "${images[@]}"
	data verify "$DEV" 0 1m 1
}

# --- UPDATE_INDEX and TRUNCATE

@test "UPDATE_INDEX: what it refuses" {
	local first last

	clusters 6
	new_image "$T/a" 16m
	new_device
	expect ENOENT "$DEV" raw $UPDATE_INDEX 0
	attach "$T/a"
	data write "$DEV" 0 1m 1
	snapshot "$T/b"
	expect EFAULT "$DEV" raw $UPDATE_INDEX 0
	expect OK "$DEV" update-index 0
	# Which cluster got which place is up to the workers.
	first=$(entry "$T/a" 0)
	last=$(entry "$T/a" 31)
	# The index of the file says otherwise; no such cluster; beyond the file; within the index.
	for pair in "0:$((first + 1))" "31:$((last + 1))" 32:5 512:1 4294967295:1 0:100 0:0 0:4294967295; do
		expect EINVAL "$DEV" update-index 0 "$pair"
	done
	expect EINVAL "$DEV" update-index 0 "0:$first" "31:$((last + 1))"
	expect EBUSY "$DEV" update-index 1 0:1
	expect ENOENT "$DEV" update-index 2 0:1
	# What it says is already so.
	expect OK "$DEV" update-index 0 "0:$first" "31:$last"
	data verify "$DEV" 0 1m 1
	# A raw image has no index, whatever the list says.
	detach
	truncate -s 16m "$T/base.raw"
	attach "$T/base.raw" "$T/b"
	[[ $(timeout 20 "$IOCTL" "$DEV" update-index 0 400:400 2>&1) == EOPNOTSUPP ]]
}

@test "UPDATE_INDEX after clusters of a lower delta were moved: the old places are nobody's" {
	local c pairs=() bytes=32768 end old olds=()

	clusters 6
	new_image "$T/a" 16m
	attach "$T/a"
	data write "$DEV" 0 1m 1
	snapshot "$T/b"
	data write "$DEV" 32k 32k 2
	data write "$DEV" 64k 4k 2
	end=$(($(stat -c %s "$T/a") / bytes))
	# 1 and 2 are the top's by now.
	for c in 0 1 2 7; do
		old=$(entry "$T/a" $c)
		dd if="$T/a" of="$T/a" bs=$bytes skip="$old" seek=$end count=1 conv=notrunc,fsync status=none
		set_entry "$T/a" $c $end
		olds+=("$old")
		pairs+=("$c:$end")
		end=$((end + 1))
	done
	expect OK "$DEV" update-index 0 "${pairs[@]}"
	for old in "${olds[@]}"; do
		dd if=/dev/urandom of="$T/a" bs=$bytes seek="$old" count=1 conv=notrunc,fsync status=none
	done
	moved_data
	detach
	attach "$T/a" "$T/b"
	moved_data
	# Copy-up from a new place.
	data write "$DEV" $((7 * bytes)) 512 3
	data verify "$DEV" $((7 * bytes + 512)) $((bytes - 512)) 1
}

moved_data()
{
	data verify "$DEV" 0 32k 1
	data verify "$DEV" 32k 36k 2
	data verify "$DEV" 68k 956k 1
}

@test "TRUNCATE: what it refuses, and that it cuts" {
	clusters 6
	truncate -s 16m "$T/base.raw"
	new_image "$T/a" 16m
	new_device
	expect ENOENT "$DEV" truncate "$T/a" 1 0
	attach "$T/base.raw" "$T/a"
	data write "$DEV" 0 1m 1
	snapshot "$T/b"
	expect EFAULT "$DEV" raw $TRUNCATE 0
	expect EBADF "$DEV" truncate "$T/a" 33 1 fd=-1
	expect ENOENT "$DEV" truncate "$T/a" 33 3
	expect EBUSY "$DEV" truncate "$T/b" 33 2
	expect EOPNOTSUPP "$DEV" truncate "$T/base.raw" 33 0
	expect EBADF "$DEV" truncate "$T/a" 33 1 fd=99
	expect EINVAL "$DEV" truncate "$T/b" 33 1
	cp "$T/a" "$T/copy"
	expect EINVAL "$DEV" truncate "$T/copy" 33 1
	# What the index points to stays, and so does the index.
	for head in 0 1 32; do
		expect EINVAL "$DEV" truncate "$T/a" $head 1
	done
	truncate -s +1m "$T/a"
	expect OK "$DEV" truncate "$T/a" 33 1
	[[ $(stat -c %s "$T/a") == $((33 * 32768)) ]]
	data verify "$DEV" 0 1m 1
	detach
	attach "$T/base.raw" "$T/a" "$T/b"
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 1m 1m 0
}

@test "REPLACE_DELTA of the top of a running read-only device, with readers" {
	clusters 6
	new_image "$T/a" 16m
	new_image "$T/b" 16m
	attach "$T/a"
	data write "$DEV" 0 4m 1
	snapshot "$T/c"
	data write "$DEV" 2m 4m 2
	detach
	cp --sparse=always "$T/c" "$T/c2"
	cp --sparse=always "$T/a" "$T/a2"
	truncate -s 8m "$T/larger.raw"
	new_image "$T/larger" 32m
	attach -r "$T/a" "$T/c"
	background sh -c "while dd if=$DEV of=/dev/null bs=1M iflag=direct status=none; do :; done"
	expect EINVAL "$DEV" replace 1 "$T/larger" ro cl=6
	expect OK "$DEV" replace 1 "$T/c2" ro cl=6
	levels_are "$T/a" "$T/c2"
	unlocked "$T/c"
	rm "$T/c"
	# What looks at the top finds the new one.
	expect OK "$DEV" raw "$((2 << 30 | 16 << 16 | 0x50 << 8 | 6))"
	expect OK "$DEV" raw "$((0x50 << 8 | 8))"
	expect OK "$DEV" replace 0 "$T/a2" ro cl=6
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 4m 2
	let_go
	detach
	unlocked "$T/a2" "$T/c2"
	# Alone: raw, of the same size only.
	truncate -s 4m "$T/x.raw"
	truncate -s 4m "$T/y.raw"
	data write "$T/y.raw" 0 4m 3
	attach -r "$T/x.raw"
	expect EINVAL "$DEV" replace 0 "$T/larger.raw" ro format=1 cl=6
	expect OK "$DEV" replace 0 "$T/y.raw" ro format=1 cl=6
	data verify "$DEV" 0 4m 3
	detach
	unlocked "$T/x.raw" "$T/y.raw"
}

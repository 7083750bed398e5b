#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# What the driver accepts as an image and what it refuses: damaged and hostile headers and indexes, images in use,
# locks. A refused image is not written to, and the log says what is wrong with which file.

load helpers

# Small clusters, so that images are small: 64 sectors, 32 KiB.
CLUSTER=64
BYTES=32768
# Byte offsets in the header.
TYPE=16
CLUSTER_SECTORS=28
CLUSTERS=32
SIZE=36
IN_USE=44
FIRST=48

setup_file() { host_up 1g; }
teardown_file() { host_down; }

setup()
{
	begin
	clusters 6
	new_device
}

teardown() { finish; }

# good_image FILE [VERSION]: 64 clusters, of which 0, 1 and 5 are allocated, made without the driver.
good_image()
{
	local unit=1

	new_image "$1" 2m "${2:-2}"
	[[ ${2:-2} == 1 ]] && unit=$CLUSTER
	set_entry "$1" 0 "$((1 * unit))"
	set_entry "$1" 1 "$((3 * unit))"
	set_entry "$1" 5 "$((2 * unit))"
	data poke "$1" 52 32 0
	truncate -s $((4 * BYTES)) "$1"
	data write "$1" $BYTES $((3 * BYTES)) 77
}

# refused ERRNO FILE: neither mode attaches it; it does not change; the log names it.
refused()
{
	local want=$1 file=$2 before mode lines

	before=$(hash_of "$file")
	for mode in rw ro; do
		expect "$want" "$DEV" add "$file" "$mode" cl="$CL" || return 1
	done
	[[ $(hash_of "$file") == "$before" ]] || fail "$file was changed" || return 1
	lines=$(kernel_log | grep -c "ploop[0-9].*${file##*/}[^a-z0-9-]")
	((lines == 2)) || fail "$lines lines in the log about $file, not one for each attempt"
}

# bad_header NAME OFFSET BITS VALUE: the good image with this in its header.
bad_header()
{
	local name=$1 offset=$2 bits=$3 value=$4

	cp --sparse=always "$T/good" "$T/$name"
	data poke "$T/$name" "$offset" "$bits" "$value"
	refused EINVAL "$T/$name"
}

@test "each header field is checked" {
	good_image "$T/good"
	bad_header signature 0 32 0x12345678
	bad_header signature-tail 12 32 0
	bad_header type $TYPE 32 3
	bad_header cluster-zero $CLUSTER_SECTORS 32 0
	bad_header cluster-odd $CLUSTER_SECTORS 32 65
	bad_header cluster-small $CLUSTER_SECTORS 32 32
	bad_header cluster-big $CLUSTER_SECTORS 32 262144
	bad_header cluster-other $CLUSTER_SECTORS 32 128
	bad_header no-clusters $CLUSTERS 32 0
	bad_header many-clusters $CLUSTERS 32 65
	bad_header all-clusters $CLUSTERS 32 0xffffffff
	bad_header size-ragged $SIZE 64 $((4096 + 1))
	bad_header size-zero $SIZE 64 0
	bad_header size-huge $SIZE 64 0xffffffffffffffc0
	bad_header first-zero $FIRST 32 0
	bad_header first-ragged $FIRST 32 65
	bad_header first-beyond-file $FIRST 32 $((8 * CLUSTER))
	bad_header first-huge $FIRST 32 0xffffffc0
	# The good one is good.
	expect OK "$DEV" add "$T/good" cl="$CL"
}

@test "version 1: size over 32 bits, misaligned entries" {
	good_image "$T/good" 1
	bad_header size-high $((SIZE + 4)) 32 1
	cp "$T/good" "$T/misaligned"
	set_entry "$T/misaligned" 1 $((3 * CLUSTER + 1))
	refused EUCLEAN "$T/misaligned"
	attach_good_and_read
}

attach_good_and_read()
{
	expect OK "$DEV" add "$T/good" cl="$CL"
	expect OK "$DEV" start
	# The pattern is by offset in the file: read back through the map and compare with the file itself.
	for pair in 0:1 1:3 5:2; do
		cmp <(dd if="$DEV" bs=$BYTES skip="${pair%:*}" count=1 status=none) \
			<(dd if="$T/good" bs=$BYTES skip="${pair#*:}" count=1 status=none)
	done
	data verify "$DEV" $((2 * BYTES)) $((3 * BYTES)) 0
	data verify "$DEV" $((6 * BYTES)) $((58 * BYTES)) 0
}

@test "each kind of bad index entry is EUCLEAN" {
	good_image "$T/good"
	bad_entry duplicate 7 3
	bad_entry last-value 7 4294967295
	bad_entry beyond-file 7 4
	bad_entry behind-the-disk 64 4
	bad_entry behind-the-disk-valid 70 3
	bad_entry last-slot $((BYTES / 4 - 17)) 2
	# An index of two clusters: entries into the second.
	new_image "$T/two" 512m
	[[ $(stat -c %s "$T/two") == $((3 * BYTES)) ]]
	truncate -s $((6 * BYTES)) "$T/two"
	for cluster in 1 2; do
		cp "$T/two" "$T/into-index-$cluster"
		set_entry "$T/into-index-$cluster" 9 $cluster
		refused EUCLEAN "$T/into-index-$cluster"
	done
	attach_good_and_read
}

bad_entry()
{
	cp --sparse=always "$T/good" "$T/$1"
	set_entry "$T/$1" "$2" "$3"
	refused EUCLEAN "$T/$1"
}

@test "file sizes: ragged, shorter than the index, empty" {
	good_image "$T/good"
	cp "$T/good" "$T/ragged"
	truncate -s +512 "$T/ragged"
	refused EINVAL "$T/ragged"
	cp "$T/good" "$T/short"
	truncate -s 4096 "$T/short"
	refused EINVAL "$T/short"
	: >"$T/empty"
	refused EINVAL "$T/empty"
	head -c 64 "$T/good" >"$T/header-only"
	refused EINVAL "$T/header-only"
	# Clusters at the end that nobody owns are no damage: allocated ahead before a crash. START cuts them.
	truncate -s $((9 * BYTES)) "$T/good"
	attach_good_and_read
	detach
	[[ $(stat -c %s "$T/good") == $((4 * BYTES)) ]]
}

@test "an image marked in use is EBUSY, also read-only; closed with extension is not in use" {
	good_image "$T/good"
	cp "$T/good" "$T/crashed"
	data poke "$T/crashed" $IN_USE 32 0x746f6e59
	refused EBUSY "$T/crashed"
	cp "$T/good" "$T/strange"
	data poke "$T/strange" $IN_USE 32 1
	refused EBUSY "$T/strange"
	data poke "$T/good" $IN_USE 32 0x312e3276
	attach_good_and_read
	in_use "$T/good"
	detach
	[[ $(data peek "$T/good" $IN_USE 32) == 0 ]]
}

@test "deltas must fit together: version, size order, cluster size" {
	new_image "$T/v1" 2m 1
	new_image "$T/v2" 2m 2
	new_image "$T/small" 1m
	new_image "$T/big" 4m
	truncate -s $((1048576 + 512)) "$T/ragged.raw"
	expect OK "$DEV" add "$T/v2" ro cl="$CL"
	refused EINVAL "$T/v1"
	refused EINVAL "$T/small"
	# A larger one makes the device larger.
	expect OK "$DEV" add "$T/big" cl="$CL"
	expect OK "$DEV" start
	[[ $(blockdev --getsize64 "$DEV") == 4194304 ]]
	data write "$DEV" 3m 512k 3
	data verify "$DEV" 3m 512k 3
	data verify "$DEV" 0 3m 0
	detach
	# A raw base of odd size goes alone, with nothing above.
	new_device
	expect OK "$DEV" add "$T/ragged.raw" ro format=1 cl="$CL"
	expect EINVAL "$DEV" add "$T/v2" cl="$CL"
}

@test "the in-use mark is set while attached for writing, and only then" {
	good_image "$T/good"
	expect OK "$DEV" add "$T/good" cl="$CL"
	in_use "$T/good"
	expect OK "$DEV" start
	in_use "$T/good"
	stop
	fails in_use "$T/good"
	expect OK "$DEV" start
	in_use "$T/good"
	stop
	expect OK "$DEV" clear
	fails in_use "$T/good"
	# Added, never started.
	expect OK "$DEV" add "$T/good" cl="$CL"
	expect OK "$DEV" clear
	fails in_use "$T/good"
	local before
	before=$(hash_of "$T/good")
	expect OK "$DEV" add "$T/good" ro cl="$CL"
	expect OK "$DEV" start
	fails in_use "$T/good"
	stop
	[[ $(hash_of "$T/good") == "$before" ]]
}

@test "one writer or many readers" {
	local first second

	good_image "$T/good"
	good_image "$T/other"
	attach "$T/good"
	openable
	first=$DEV
	new_device
	second=$DEV
	expect EBUSY "$second" add "$T/good" cl="$CL"
	expect ETXTBSY "$second" add "$T/good" ro cl="$CL"
	detach "$first"
	attach -r "$T/good"
	openable
	first=$DEV
	expect EBUSY "$second" add "$T/good" cl="$CL"
	expect OK "$second" add "$T/good" ro cl="$CL"
	expect OK "$second" start
	cmp <(dd if="$first" bs=1M count=2 status=none) <(dd if="$second" bs=1M count=2 status=none)
	stop "$second"
	expect OK "$second" clear
	expect EBUSY "$second" add "$T/good" cl="$CL"
	detach "$first"
	expect OK "$second" add "$T/good" cl="$CL"
	# Also within one device.
	expect OK "$second" clear
	expect OK "$second" add "$T/good" ro cl="$CL"
	expect EBUSY "$second" add "$T/good" cl="$CL"
}

@test "locks: ours are seen by others, others' are respected" {
	good_image "$T/good"
	hold "$T/good" lock rw
	expect EBUSY "$DEV" add "$T/good" cl="$CL"
	expect ETXTBSY "$DEV" add "$T/good" ro cl="$CL"
	let_go
	hold "$T/good" lock ro
	expect EBUSY "$DEV" add "$T/good" cl="$CL"
	expect OK "$DEV" add "$T/good" ro cl="$CL"
	let_go
	expect RDLCK "$T/good" getlk
	expect EAGAIN "$T/good" lock rw
	expect OK "$DEV" clear
	expect UNLCK "$T/good" getlk
	expect OK "$DEV" add "$T/good" cl="$CL"
	expect WRLCK "$T/good" getlk
	expect EAGAIN "$T/good" lock ro
	expect OK "$DEV" start
	stop
	expect WRLCK "$T/good" getlk
	expect OK "$DEV" clear
	expect UNLCK "$T/good" getlk
}

@test "dense: allocated clusters have no hole and no unwritten part" {
	clusters 11
	new_image "$T/sparse" 64m
	new_image "$T/dense" 64m
	new_image "$T/top" 64m
	fill "$T/sparse"
	fails data dense "$T/sparse" 1m "$(stat -c %s "$T/sparse")"
	echo 1 >"$SYS/ptune/dense"
	fill "$T/dense"
	data dense "$T/dense" 1m "$(stat -c %s "$T/dense")"
	# Copy-up too.
	stack "$T/sparse" "$T/top"
	echo 1 >"$SYS/ptune/dense"
	expect OK "$DEV" start
	data write "$DEV" 4k 4k 5
	detach
	data dense "$T/top" 1m "$(stat -c %s "$T/top")"
	unload
	modprobe ploop dense=1
	is /sys/module/ploop/parameters/dense Y
	new_device
	is "$SYS/ptune/dense" 1
}

# Small writes here and there, discards, a zeroing: all that could leave holes.
fill()
{
	expect OK "$DEV" add "$1" cl="$CL"
	expect OK "$DEV" start
	data write-every "$DEV" 3m 12 9
	data write "$DEV" $((5 * 1048576 + 512)) 512 9
	blkdiscard -o 6m -l 64k "$DEV"
	blkdiscard -z -o 9m -l 64k "$DEV"
	data verify "$DEV" 9m 64k 0
	data verify "$DEV" 12m 4k 9
	stop
	expect OK "$DEV" clear
}

#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `ploop check`: each kind of damage, what is said about it, and what a repair makes of it. Images are made and read
# without the driver, so that they can be wrong.

load helpers
load stack
load damage

setup_file() { host_up 1g; }
teardown_file() { host_down; }

@test "a good image of either version: nothing to say, nothing to do" {
	local version

	for version in 1 2; do
		filled a $version
		not_written exits 0 check a
		said '16 of 256 clusters used'
		not_written exits 0 check -f a
		not_written exits 0 check -r a
		not_written exits 0 check --repair a
		good a
		rm a
	done
}

@test "clusters that share a place: each gets one of its own, with the same data" {
	local version size

	for version in 1 2; do
		for size in 8m 300m; do
			filled a $version $size
			duplicate a
			[[ $(found a duplicates) == 3 ]]
			mended 11
			[[ $(data map a | tr ' ' '\n' | awk -F: '{ n += $3 } END { print n }') == 18 ]]
			rm a
		done
	done
}

@test "clusters that share a place: their copies fill gaps first, holes stay holes" {
	filled a 2
	set_entry a 7 0
	set_entry a 8 0
	# Most of cluster 5 is a hole.
	fallocate -p -o $(($(entry a 5) * CLUSTER + 4096)) -l $((CLUSTER - 8192)) a
	duplicate a
	mended 11
	# Clusters 7, 8, and 2, which points elsewhere.
	[[ $(file_clusters a) == 17 ]]
	(($(stat -c %b a) * 512 <= 15 * CLUSTER + 3 * 8192 + 65536))
}

@test "clusters that share a place: writes to one do not reach the other any more" {
	filled a 2
	duplicate a
	exits 0 check --repair a
	qemu-img convert -f parallels -O raw a disk
	attach a
	cmp "$DEV" disk
	data write "$DEV" $((100 * CLUSTER)) "$CLUSTER" 9
	data verify "$DEV" $((5 * CLUSTER)) "$CLUSTER" 1
	data verify "$DEV" $((100 * CLUSTER)) "$CLUSTER" 9
	detach
	good a
}

@test "clusters that share a place: nobody mounts, merges or grows such an image" {
	filled a 2
	new_image top 8m 2
	duplicate a
	not_written exits 11 mount a
	said 'ploop check'
	not_written exits 11 merge top a
	said 'ploop check --repair'
	not_written exits 11 grow -s 300m a
	data poke a "$IN_USE" 32 "$DIRTY"
	not_written exits 11 mount a
	mended 11
}

@test "entries behind the disk are removed, and their clusters given back" {
	local version

	for version in 1 2; do
		filled a $version
		point a 256 5
		point a 300 40
		[[ $(found a outside_disk) == 2 ]]
		mended 11
		rm a
		filled a $version 300m
		point a 16300 4
		mended 11
		rm a
	done
}

# hopeless WHY: a is damaged, and stays so.
hopeless()
{
	only_reported 11
	not_written exits 11 check --repair a
	said "$1"
	not_written exits 11 mount a
}

@test "entries that point nowhere: nothing is repaired, whatever else is wrong" {
	filled a 2
	set_entry a 9 4000000000
	hopeless 'far behind the end'
	duplicate a
	truncate -s +100k a
	data poke a "$IN_USE" 32 "$DIRTY"
	hopeless 'restore the image from a backup'
	rm a
	filled a 2 300m
	set_entry a 9 1
	hopeless 'inside the index'
	rm a
	filled a 1
	set_entry a 9 $((3 * 64 + 1))
	hopeless 'not the start of a cluster'
}

@test "many bad entries: some are named, all are counted" {
	local clu

	filled a 2
	for ((clu = 40; clu < 60; clu++)); do
		point a $clu 3
	done
	exits 11 check a
	said '20 entries of the index are bad'
	(($(grep -c 'both at 3' said) == 10))
	mended 11
}

@test "a header that cannot be: nothing is repaired" {
	local field

	# Offset, bits and value: type, cluster size, clusters, size, first cluster.
	for field in "16 32 3" "28 32 63" "28 32 1024" "28 32 128" "32 32 255" "36 64 16383" "48 32 65" "48 32 0" "48 32 6400000"; do
		filled a 2
		# shellcheck disable=SC2086 # three arguments
		data poke a $field
		only_reported 11
		not_written exits 11 check --repair a
		[[ $(ploop check --json a 2>/dev/null | jq -r '.[0].status') == 11 ]]
		rm a
	done
	# The version that it is not: no entry is right any more.
	filled a 2
	printf WithoutFreeSpace | dd of=a conv=notrunc status=none
	only_reported 11
	not_written exits 11 check --repair a
	rm a
	filled a 1
	printf WithouFreSpacExt | dd of=a conv=notrunc status=none
	only_reported 11
	not_written exits 11 check --repair a
	printf 'no image' >a
	not_written exits 6 check --repair a
	rm a
	exits 4 check --repair a
	[[ ! -e a ]]
}

@test "left in use by a crash: with and without damage" {
	filled a 2
	data poke a "$IN_USE" 32 "$DIRTY"
	mended 37
	data poke a "$IN_USE" 32 1
	mended 37
	data poke a "$IN_USE" 32 "$DIRTY"
	duplicate a
	truncate -s +5000 a
	mended 11
}

@test "the file ends too early: clusters behind its end become zeros" {
	local version

	for version in 1 2; do
		filled a $version
		point a 30 25
		[[ $(found a beyond_end) == 1 ]]
		mended 11
		[[ $(file_clusters a) == 26 ]]
		truncate -s -$((CLUSTER / 2)) a
		[[ $(found a beyond_end) == 1 && $(found a ragged) == true ]]
		mended 11
		rm a
	done
}

@test "the file ends within a cluster" {
	filled a 2
	truncate -s +5000 a
	mended 11
}

@test "lost clusters are no damage; a repair gives them back" {
	local before

	filled a 2
	set_entry a 5 0
	set_entry a 9 0
	sync a
	before=$(stat -c %b a)
	[[ $(found a lost) == 2 && $(found a tail) == 0 ]]
	mended 0
	# The file system may need a block to note it.
	(($(stat -c %b a) * 512 <= before * 512 - 2 * CLUSTER + 8192))
	# In reverse order: the last one of the file.
	set_entry a 200 0
	truncate -s +1m a
	[[ $(found a tail) == 33 ]]
	mended 0
	[[ $(file_clusters a) == 16 ]]
	# A hole is no loss.
	set_entry a 7 0
	mended 0
	[[ $(found a lost) == 0 ]]
}

@test "a header that says empty" {
	filled a 2
	data poke a "$FLAGS" 32 1
	[[ $(found a false_empty) == true ]]
	mended 0
	[[ $(data peek a "$FLAGS" 32) == 0 ]]
}

# An image with an extension behind its last cluster.
extended()
{
	filled "$1" 2
	data poke "$1" "$IN_USE" 32 "$WITH_EXTENSION"
	data poke "$1" "$EXTENSION" 64 $(($(file_clusters "$1") * 64))
	truncate -s "+$CLUSTER" "$1"
}

@test "an extension behind the last cluster is not lost, but goes with the first repair that it does not survive" {
	extended a
	only_reported 0
	not_written exits 0 check --repair a
	duplicate a
	mended 11
	[[ $(data peek a "$EXTENSION" 64) == 0 ]]
}

@test "an extension goes when the driver uses the image, and nobody looks for it any more" {
	extended a
	not_written attach -r a
	not_written detach
	attach a
	[[ $(data peek a "$EXTENSION" 64) == 0 ]]
	data write "$DEV" $((50 * CLUSTER)) "$CLUSTER" 9
	detach
	[[ $(data peek a "$EXTENSION" 64) == 0 ]]
	fails in_use a
	check_image a
}

@test "stacks: sizes, versions, cluster sizes, one file twice" {
	filled a 2
	filled b 2 300m
	new_image c 300m 2
	filled v1 1
	CL=7 new_image large 300m 2
	exits 0 check a b c
	(($(grep -c 'clusters used' said) == 3))
	exits 38 check b a
	said 'smaller than'
	exits 38 check a v1
	said 'version'
	exits 38 check a large
	said 'clusters of 128 sectors'
	exits 38 check a b a
	said 'given twice'
	exits 38 check --repair a b a
	ln -s a also-a
	exits 38 check --repair a also-a
	# The first verdict counts, but all are looked at.
	duplicate b
	exits 11 check b a missing
	said 'smaller than'
	said missing
	exits 0 check --repair a b c
	good b
}

@test "JSON" {
	filled a 2
	filled b 2
	duplicate a
	set_entry b 3 0
	[[ $(ploop check --json a b 2>/dev/null | jq -c 'map([.status, .clusters, .clusters_used, .duplicates, .lost, .repaired])') == '[[11,256,18,3,1,false],[0,256,15,0,1,false]]' ]]
	[[ $(ploop check --json --repair a b 2>/dev/null | jq -c 'map([.status, .duplicates, .lost, .repaired, .in_use])') == '[[0,0,0,true,false],[0,0,0,true,false]]' ]]
	[[ $(ploop check --json missing a 2>/dev/null | jq -c 'map([.status, .image])') == "[[4,\"missing\"],[0,\"$T/a\"]]" ]]
}

@test "holes are filled with zeros when that is asked for" {
	local size sum

	filled a 2
	size=$(stat -c %s a)
	# A hole within a cluster in use, an unwritten part in another, and a hole at the end.
	fallocate -p -o $((2 * CLUSTER + 4096)) -l 4096 a
	fallocate -p -o $((4 * CLUSTER)) -l 8192 a
	fallocate -o $((4 * CLUSTER)) -l 8192 a
	truncate -s $((size += CLUSTER)) a
	data disk a >before
	sum=$(sha256sum <a)
	fails data dense a 0 "$size"
	not_written exits 0 check a
	not_written exits 38 check -r --fill-holes a
	data poke a "$IN_USE" 32 "$DIRTY"
	not_written exits 37 check --fill-holes a
	exits 0 check --repair a
	truncate -s "$size" a
	exits 0 check --fill-holes a
	said 'bytes of holes filled with zeros'
	data dense a 0 "$size"
	[[ $(sha256sum <a) == "$sum" ]]
	same_disk a
	not_written exits 0 check --fill-holes a
	said ' 0 bytes of holes'
	fallocate -p -o $((3 * CLUSTER)) -l 4096 a
	[[ $(ploop check --json --fill-holes a | jq -c '.[0] | [.status, .repaired, .filled]') == '[0,false,4096]' ]]
}

@test "no space to fill holes: the image stays as it was" {
	local disk sum

	disk=$(scratch_disk small 16m)
	make_fs ext4 "$disk" "$T/small"
	losetup -d "$disk"
	filled a 2
	truncate -s 32m a
	cp --sparse=always a small/a
	sum=$(sha256sum <a)
	exits 7 check --fill-holes small/a
	said 'No space left'
	[[ $(sha256sum <small/a) == "$sum" ]]
	exits 0 check --repair small/a
	exits 0 check --fill-holes small/a
	data dense small/a 0 "$(stat -c %s small/a)"
}

@test "files of an attached image are refused, but for those that are only read" {
	filled a 2
	new_image b 8m 2
	exits 0 mount a b
	exits 37 check b
	exits 37 check --repair b
	exits 37 check --repair a
	exits 0 check a
	exits 0 umount b
	exits 0 check --repair a b
}

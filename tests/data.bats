#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# What was written is what is read: random loads with verification on every kind of image, cluster borders, holes,
# discard and zeroing, reuse of space, offsets over 4 TiB, and what qemu-img sees in the image.

load helpers

setup_file() { host_up 2g; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

# fio_jobs OPTION...: three jobs on disjoint ranges of the first 48 MiB; blocks of 512 bytes to 256 KiB anywhere.
fio_jobs()
{
	fio --filename="$DEV" --ioengine=psync --direct=1 --size=16m --offset_increment=16m --numjobs=3 --rw=randrw \
		--bsrange=512-256k --bs_unaligned=0 --bssplit=512/30:4k/40:36k/10:64k/10:256k/10 --io_size=6m \
		--verify=crc32c --fsync=16 --randseed=4711 --group_reporting --thread --name=job \
		--output="$T/fio.log" "$@" || {
		cat "$T/fio.log"
		return 1
	}
}

write_and_verify() { fio_jobs --do_verify=1 --verify_fatal=1; }
verify_again() { fio_jobs --verify_only=1 --verify_fatal=1; }

# qemu_agrees IMAGE: the content that qemu-img finds in the detached image is what the device showed in $T/shown.
qemu_agrees()
{
	qemu-img check -q -f parallels "$1"
	qemu-img compare -q -f parallels -F raw "$1" "$T/shown"
	qemu-img convert -f parallels -O raw "$1" "$T/converted"
	cmp "$T/converted" "$T/shown"
	rm "$T/converted"
}

# load_test IMAGE...: write with verification, detach, attach again, verify again; what the device shows is in $T/shown.
load_test()
{
	attach "$@"
	write_and_verify
	detach
	attach "$@"
	verify_again
	dd if="$DEV" of="$T/shown" bs=1M conv=sparse status=none
	detach
}

@test "random load: version 2, clusters of 1 MiB" {
	new_image "$T/a" 64m
	load_test "$T/a"
	qemu_agrees "$T/a"
}

@test "random load: version 1, clusters of 32 KiB" {
	clusters 6
	new_image "$T/a" 64m 1
	load_test "$T/a"
	qemu_agrees "$T/a"
}

@test "random load: version 2, clusters of 64 MiB" {
	clusters 17
	new_image "$T/a" 192m
	load_test "$T/a"
	qemu_agrees "$T/a"
}

@test "random load: raw" {
	truncate -s 64m "$T/a.raw"
	load_test "$T/a.raw"
	cmp "$T/a.raw" "$T/shown"
}

@test "random load: ten deltas" {
	local i images=()

	# Each delta has its own data at two places, one of which the next covers in part.
	for i in {0..9}; do
		new_image "$T/$i" 64m
		images+=("$T/$i")
		attach "${images[@]}"
		data write "$DEV" $((48 * 1048576 + i * 1048576)) 1536k $((i + 1))
		detach
	done
	attach -r "${images[@]}"
	show_levels
	detach
	load_test "${images[@]}"
	attach -r "${images[@]}"
	show_levels
	detach
	# The lower ones alone are as they were.
	attach -r "${images[@]:0:9}"
	data verify "$DEV" 0 48m 0
}

show_levels()
{
	local i

	for i in {0..9}; do
		data verify "$DEV" $((48 * 1048576 + i * 1048576)) 1m $((i + 1))
	done
	data verify "$DEV" 58m 512k 10
	data verify "$DEV" $((58 * 1048576 + 524288)) $((5 * 1048576 + 524288)) 0
}

@test "bios over cluster borders, single sectors, the last sector" {
	clusters 6
	new_image "$T/a" 64m
	attach "$T/a"
	data write "$DEV" 32256 1024 1
	data verify "$DEV" 32256 1024 1
	data verify "$DEV" 0 32256 0
	data verify "$DEV" 33280 512 0
	data write "$DEV" $((10 * 32768 - 512)) $((5 * 32768 + 1024)) 2
	data verify "$DEV" $((10 * 32768 - 512)) $((5 * 32768 + 1024)) 2
	data write "$DEV" $((64 * 1048576 - 512)) 512 3
	data verify "$DEV" $((64 * 1048576 - 512)) 512 3
	fails data write "$DEV" $((64 * 1048576)) 512 3
	(($(stat_of bio_splits) > 0))
	for i in 1 3 5 7; do
		data write "$DEV" $((20 * 32768 + i * 512)) 512 4
	done
	for i in 0 2 4 6 8; do
		data verify "$DEV" $((20 * 32768 + i * 512)) 512 0
	done
	detach
	attach "$T/a"
	for i in 1 3 5 7; do
		data verify "$DEV" $((20 * 32768 + i * 512)) 512 4
	done
	data verify "$DEV" $((10 * 32768 - 512)) $((5 * 32768 + 1024)) 2
}

@test "copy-up: the rest of the cluster comes from below; below nothing changes" {
	local before

	new_image "$T/low" 64m
	new_image "$T/top" 64m
	attach "$T/low"
	data write "$DEV" 0 4m 1
	detach
	before=$(hash_of "$T/low")
	attach "$T/low" "$T/top"
	data write "$DEV" $((1048576 + 512)) 512 2
	data write "$DEV" 2m 1m 3
	data write "$DEV" $((3 * 1048576 + 65536)) 4k 0
	data verify "$DEV" 0 $((1048576 + 512)) 1
	data verify "$DEV" $((1048576 + 512)) 512 2
	data verify "$DEV" $((1048576 + 1024)) $((1048576 - 1024)) 1
	data verify "$DEV" 2m 1m 3
	data verify "$DEV" 3m 64k 1
	data verify "$DEV" $((3 * 1048576 + 65536)) 4k 0
	data verify "$DEV" $((3 * 1048576 + 69632)) $((1048576 - 69632)) 1
	(($(stat_of bio_cows) == 2 && $(stat_of bio_whole_cows) == 1))
	detach
	[[ $(hash_of "$T/low") == "$before" ]]
	attach "$T/low" "$T/top"
	data verify "$DEV" $((1048576 + 512)) 512 2
	data verify "$DEV" 2m 1m 3
	data verify "$DEV" $((3 * 1048576 + 65536)) 4k 0
}

blocks_of() { stat -c %b "$1"; }
fewer_blocks() { (($(blocks_of "$1") < $2)); }

@test "discard gives space back, reads zeros, and freed clusters hold nothing old" {
	local full size

	new_image "$T/a" 64m
	attach "$T/a"
	data write "$DEV" 0 16m 1
	expect OK "$DEV" sync
	full=$(blocks_of "$T/a")
	size=$(stat -c %s "$T/a")
	blkdiscard -o 2m -l 8m "$DEV"
	data verify "$DEV" 2m 8m 0
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 10m 6m 1
	# Part of a cluster: what 4 KiB blocks there are.
	blkdiscard -o $((12 * 1048576 + 512)) -l 256k "$DEV"
	data verify "$DEV" $((12 * 1048576 + 4096)) 252k 0
	data verify "$DEV" 12m 512 1
	expect OK "$DEV" sync
	wait_for 20 fewer_blocks "$T/a" $((full - 8 * 2048 + 64))
	[[ $(entry "$T/a" 2) == 0 ]]
	# The freed clusters are used again: the file does not grow, and nothing old shines through.
	data write-every "$DEV" 1m 10 2
	data verify-every "$DEV" 1m 10 2
	for i in 2 5 9; do
		data verify "$DEV" $((i * 1048576 + 4096)) 1020k 0
	done
	expect OK "$DEV" sync
	(($(stat -c %s "$T/a") <= size))
	detach
	attach "$T/a"
	data verify-every "$DEV" 1m 10 2
	data verify "$DEV" $((9 * 1048576 + 4096)) 1020k 0
	data verify "$DEV" 13m 3m 1
	detach
	qemu-img check -q -f parallels "$T/a"
}

@test "write-zeroes: zeros at once, with and without giving space back" {
	local full

	new_image "$T/a" 64m
	attach "$T/a"
	data write "$DEV" 0 8m 1
	expect OK "$DEV" sync
	full=$(blocks_of "$T/a")
	blkdiscard -z -o 1m -l 1m "$DEV"
	fallocate -z -o $((3 * 1048576 + 512)) -l 100k "$DEV"
	fallocate -p -o 5m -l 1m "$DEV"
	data verify "$DEV" 1m 1m 0
	data verify "$DEV" $((3 * 1048576 + 512)) 100k 0
	data verify "$DEV" $((3 * 1048576 + 512 + 102400)) 512 1
	data verify "$DEV" 3m 512 1
	data verify "$DEV" 5m 1m 0
	data verify "$DEV" 6m 2m 1
	expect OK "$DEV" sync
	wait_for 20 fewer_blocks "$T/a" $((full - 2048 + 64))
	# Zeros to where nothing is allocate nothing.
	blkdiscard -z -o 20m -l 4m "$DEV"
	data write "$DEV" 30m 1m 0
	(($(stat_of bio_alloc) == 8))
	detach
	attach "$T/a"
	data verify "$DEV" 1m 1m 0
	data verify "$DEV" $((3 * 1048576 + 512)) 100k 0
	data verify "$DEV" 5m 1m 0
}

@test "discard and zeroing over lower data: never what was there before" {
	new_image "$T/low" 64m
	new_image "$T/top" 64m
	attach "$T/low"
	data write "$DEV" 0 8m 1
	detach
	attach "$T/low" "$T/top"
	# Zeros, in part and whole, of clusters that only the lower has.
	blkdiscard -z -o 1m -l 1m "$DEV"
	blkdiscard -z -o $((2 * 1048576 + 4096)) -l 8k "$DEV"
	data verify "$DEV" 1m 1m 0
	data verify "$DEV" $((2 * 1048576 + 4096)) 8k 0
	data verify "$DEV" 2m 4k 1
	# The top's own cluster above lower data, discarded: its new data or zeros, not the old data.
	data write "$DEV" 3m 1m 2
	blkdiscard -o 3m -l 1m "$DEV"
	data verify "$DEV" 3m 1m 0
	detach
	attach "$T/low" "$T/top"
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 1m 1m 0
	data verify "$DEV" 2m 4k 1
	data verify "$DEV" $((2 * 1048576 + 4096)) 8k 0
	data verify "$DEV" 3m 1m 0
	data verify "$DEV" 4m 4m 1
}

@test "disk and image file over 4 TiB" {
	local head=$((5 * 1048576))

	new_image "$T/a" 8t
	# An owner far out in the file: cluster 5 Mi, 5 TiB.
	set_entry "$T/a" 3 "$head"
	truncate -s $(((head + 1) * 1048576)) "$T/a"
	attach "$T/a"
	[[ $(blockdev --getsize64 "$DEV") == $((8 * 1099511627776)) ]]
	data write "$DEV" 3m 1m 1
	# 2, 4 and 6 TiB: alike in 32 bits, of sectors or of bytes.
	for at in 0 2t 4t 6t $((8 * 1099511627776 - 4096)); do
		data write "$DEV" "$at" 4k 2
	done
	for at in 0 2t 4t 6t $((8 * 1099511627776 - 4096)); do
		data verify "$DEV" "$at" 4k 2
	done
	data verify "$DEV" 3m 1m 1
	data verify "$DEV" 1t 1m 0
	data verify "$DEV" 5t 1m 0
	detach
	data verify "$T/a" $((head * 1048576)) 4k 0 && fail "nothing at 5 TiB of the file"
	attach "$T/a"
	data verify "$DEV" 3m 1m 1
	data verify "$DEV" 4t 4k 2
	data verify "$DEV" $((8 * 1099511627776 - 4096)) 4k 2
}

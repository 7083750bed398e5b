#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Native discard gives space back: what a filesystem deleted is gone from the image after fstrim, in pieces of 4 KiB, with
# and without a snapshot below, while others write; and nobody ever reads what a cluster held before.

load helpers
load stack

setup_file() { host_up 3g; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

# Bytes that files occupy on the host.
allocated()
{
	local file sum=0

	for file; do
		sum=$((sum + $(stat -c '%b * %B' "$file")))
	done
	echo $sum
}

allocates_at_most() { (($(allocated "${@:2}") <= $1)); }

# Bytes that the filesystem of the device, which is not mounted, has given to files and to itself.
used()
{
	dumpe2fs -h "$1" 2>/dev/null | awk -F: '
		/^Block count/ { blocks = $2 }
		/^Free blocks/ { free = $2 }
		/^Block size/ { size = $2 }
		END { printf "%d\n", (blocks - free) * size }'
}

# new_fs SIZE: an image with ext4, mounted.
new_fs()
{
	new_image "$T/a" "$1"
	attach "$T/a"
	is "$SYS/queue/discard_granularity" 4096
	mkfs.ext4 -q -b 4096 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$DEV"
	mkdir "$T/mnt"
	mount "$DEV" "$T/mnt"
}

# delete_half DIR: of the files, whatever they are called, every second one.
delete_half() { find "$1" -type f | sort | awk 'NR % 2' | xargs rm; }

# Until the journal is committed deleted files keep their blocks.
trim()
{
	sync -f "$T/mnt"
	fstrim "$T/mnt"
}

# Where the last cluster in use of an image ends, bytes.
end_of() { echo $(($(data map "$1" | tail -n 1 | awk -F: '{ print $2 + $3 }') << (CL + 9))); }

# space_is_back LIMIT FILE...: what the files take sinks to LIMIT by itself.
space_is_back()
{
	local last=${*: -1}

	wait_for 20 allocates_at_most "$@" || fail "$(allocated "${@:2}") bytes allocated, more than $1;" \
		"$(stat -c %s "$last") long, in use up to $(end_of "$last")"
}

# follows_fs FILE...: they take what the filesystem uses, give or take 5 %, and at least what is in its files; before and
# after a restart. Tables of the filesystem that are zeros need not be there.
follows_fs()
{
	local uses content

	content=$(find "$T/mnt" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
	umount "$T/mnt"
	e2fsck -fn "$DEV"
	uses=$(used "$DEV")
	echo "# the filesystem uses $uses, the image $(allocated "$@")"
	space_is_back $((uses * 105 / 100)) "$@"
	detach
	space_is_back $((uses * 105 / 100)) "$@"
	(($(allocated "$@") >= content))
	check_image "$@"
	attach "$@"
	e2fsck -fn "$DEV"
	mount "$DEV" "$T/mnt"
}

@test "fill, delete half, fstrim: the image is as large as what the filesystem uses" {
	local full

	new_fs 256m
	data files "$T/mnt" 1 1400
	sync -f "$T/mnt"
	full=$(allocated "$T/a")
	((full > 170 * 1048576))
	delete_half "$T/mnt"
	trim
	follows_fs "$T/a"
	(($(allocated "$T/a") < full * 7 / 10))
	[[ $(data check-files "$T/mnt" 1 1400) == 700 ]]
	# What comes to the freed space is right, too.
	data files "$T/mnt" 10001 600
	delete_half "$T/mnt"
	trim
	follows_fs "$T/a"
	(($(data check-files "$T/mnt" 1 1400) + $(data check-files "$T/mnt" 10001 600) == 650))
}

@test "the same with a snapshot: the top holds what was written since, the lower delta is untouched" {
	local lower hash uses limit

	clusters 6
	new_fs 256m
	mkdir "$T/mnt/new"
	data files "$T/mnt" 1 700
	sync -f "$T/mnt"
	fsfreeze -f "$T/mnt"
	snapshot "$T/b"
	fsfreeze -u "$T/mnt"
	hash=$(hash_of "$T/a")
	lower=$(allocated "$T/a")
	# Old files are written anew in their places, so that the top has clusters that hide others; and new files come.
	data files "$T/mnt" 1 200
	data files "$T/mnt/new" 20001 600
	sync -f "$T/mnt"
	(($(allocated "$T/b") > 80 * 1048576))
	delete_half "$T/mnt/new"
	find "$T/mnt" -path "$T/mnt/d*" -type f | sort | awk 'NR % 2' | xargs rm
	trim
	umount "$T/mnt"
	uses=$(used "$DEV")
	# Half of what the lower delta has is deleted, the other half the filesystem still uses.
	limit=$((uses * 105 / 100 - lower * 40 / 100))
	echo "# the filesystem uses $uses, the top $(allocated "$T/b"), limit $limit"
	space_is_back $limit "$T/b"
	[[ $(hash_of "$T/a") == "$hash" ]]
	detach
	space_is_back $limit "$T/b"
	check_image "$T/a" "$T/b"
	attach "$T/a" "$T/b"
	e2fsck -fn "$DEV"
	mount "$DEV" "$T/mnt"
	[[ $(data check-files "$T/mnt" 1 700) == 350 ]]
	[[ $(data check-files "$T/mnt/new" 20001 600) == 300 ]]
	umount "$T/mnt"
	# Merged, it is one image that is as large as the filesystem.
	expect OK "$DEV" merge
	mount "$DEV" "$T/mnt"
	trim
	follows_fs "$T/a"
	[[ $(data check-files "$T/mnt" 1 700) == 350 ]]
}

# churn SEED: files come and go in a directory of their own, and are compared, until $T/enough exists.
churn()
{
	local dir=$T/mnt/churn$1 seed

	mkdir "$dir"
	for ((seed = $1 * 100000; ; seed += 100)); do
		data files "$dir" "$seed" 30 || return
		sync -f "$dir" || return
		[[ $(data check-files "$dir" "$seed" 30) == 30 ]] || return
		rm -r "$dir"/d?
		echo "$seed" >"$T/churned$1"
		[[ ! -e $T/enough ]] || return 0
	done
}

# The processes of the load of a test.
loader()
{
	"${@:2}" >"$T/load.$1" 2>&1 3>&- &
	LOADERS+=($!)
	HELPERS+=($!)
}

# They ended, and well.
loaders_ended() { ! kill -0 "${LOADERS[@]}" 2>/dev/null; }

loaders_over()
{
	local pid

	for pid in "${LOADERS[@]}"; do
		wait "$pid" || fail "$(cat "$T"/load.*)" || return 1
	done
	LOADERS=()
}

# churned NUMBER ROUNDS: so many rounds are done.
churned() { (($(cat "$T/churned$1" 2>/dev/null || echo $(($1 * 100000 - 100))) >= $1 * 100000 + ($2 - 1) * 100)); }

@test "fstrim while others write, with discards of the journal too: space follows, no file is damaged" {
	local round

	clusters 6
	new_fs 256m
	mount -o remount,discard "$T/mnt"
	data files "$T/mnt" 1 800
	sync -f "$T/mnt"
	LOADERS=()
	loader 1 churn 1
	loader 2 churn 2
	snapshot "$T/b" flags=$((0x10000000))
	for round in 1 2 3; do
		delete_half "$T/mnt/d$round"
		trim
	done
	expect OK "$DEV" merge
	rm "$T/b"
	trim
	wait_for 60 churned 1 3
	wait_for 60 churned 2 3
	: >"$T/enough"
	loaders_over
	trim
	follows_fs "$T/a"
	[[ $(data check-files "$T/mnt" 1 800) == 500 ]]
}

# only_pattern NODE: each byte is zero, or as fio writes them.
PATTERN=0x5a
only_pattern()
{
	local others

	others=$(tr -d '\0\132' <"$1" | wc -c)
	((others == 0)) || fail "$1: $others bytes are not from its writers"
}

# Three partitions: in two each byte is known, in the third it is known what can be there. Any stale byte is wrong.
# load_of_three SEED
load_of_three()
{
	local part

	LOADERS=()
	for part in 1 2; do
		loader $part "$MODEL" "${DEV}p$part" "$1$part" 150 4 192 "$T/reference$part"
	done
	loader 3 fio --name=trim --filename="${DEV}p3" --direct=1 --ioengine=libaio --iodepth=8 --numjobs=4 \
		--rw=randtrimwrite --bsrange=4k-256k --blockalign=4k --number_ios=150 --fsync=32 --norandommap \
		--randrepeat=0 --buffer_pattern=$PATTERN --group_reporting
}

# FLUSH until it ends.
load_of_three_over()
{
	local flushes=0

	until loaders_ended; do
		expect OK "$DEV" sync
		flushes=$((flushes + 1))
	done
	loaders_over
	((flushes > 3)) || fail "$flushes flushes only"
	only_pattern "${DEV}p3"
	# Something must be there.
	[[ $(tr -d '\0' <"${DEV}p3" | head -c 1 | wc -c) == 1 ]]
}

partition()
{
	sfdisk -q "$DEV" <<<$'label: gpt\nsize=60MiB\nsize=60MiB\nsize=60MiB\n'
	udevadm settle
	wait_for 10 test -b "${DEV}p3"
}

same_as_models()
{
	cmp "${DEV}p1" "$T/reference1"
	cmp "${DEV}p2" "$T/reference2"
}

# no_stale_data CLUSTER-LOG: every cluster of the file had a former life.
no_stale_data()
{
	clusters "$1"
	new_image "$T/a" 200m
	attach "$T/a"
	data write "$DEV" 0 200m 99
	blkdiscard "$DEV"
	data verify "$DEV" 0 200m 0
	# Reused at once: a sector here and there, the rest is zeros.
	data write-every "$DEV" 64k 3200 98
	for i in 0 1 7 63 64 3199; do
		data verify "$DEV" $((i * 65536)) 4k 98
		data verify "$DEV" $((i * 65536 + 4096)) 60k 0
	done
	blkdiscard "$DEV"
	partition
	load_of_three 1
	load_of_three_over
	same_as_models
	detach
	attach "$T/a"
	wait_for 10 test -b "${DEV}p3"
	same_as_models
	only_pattern "${DEV}p3"
	snapshot "$T/b"
	load_of_three 2
	load_of_three_over
	same_as_models
	detach
	check_image "$T/a" "$T/b"
	attach "$T/a" "$T/b"
	wait_for 10 test -b "${DEV}p3"
	same_as_models
	only_pattern "${DEV}p3"
}

@test "no stale data under load of many queues with FLUSH and discards: clusters of 32 KiB" { no_stale_data 6; }

@test "no stale data under load of many queues with FLUSH and discards: clusters of 1 MiB" { no_stale_data 11; }
